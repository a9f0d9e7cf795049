"""Every rule × op under ``torch.export`` and ``torch.compile``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.battery.compiled import COMPILED, INDUCTOR, inductor
from tests.battery.harness import combinations, subject
from tests.battery.limits import limit_of


# Strict export says so of every mode that a forward enters, although the forward leaves it again.
pytestmark = pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(("rule", "case"), combinations())
@pytest.mark.parametrize("survival", COMPILED)
def test_survives(survival: str, rule: str, case: str) -> None:
    combination = subject(rule, case)
    limit = limit_of(survival, case)
    if limit is not None:
        with pytest.raises(limit.error, match=limit.message):
            COMPILED[survival](combination)
        return
    combination.check(COMPILED[survival](combination), bitwise=False)


@pytest.mark.parametrize(("rule", "case"), INDUCTOR)
def test_compiles_to_machine_code(rule: str, case: str) -> None:
    combination = subject(rule, case)
    combination.check(inductor(combination), bitwise=False)
