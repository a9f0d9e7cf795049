"""Every rule × op under ``torch.export`` and ``torch.compile``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.battery.compiled import COMPILED, FEW, exported_and_saved, inductor, worth_compiling
from tests.battery.harness import subject
from tests.battery.limits import limit_of

# Strict export says so of every mode that a forward enters, although the forward leaves it again.
pytestmark = pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(("rule", "case"), worth_compiling())
@pytest.mark.parametrize("survival", COMPILED)
def test_survives(survival: str, rule: str, case: str) -> None:
    combination = subject(rule, case)
    limit = limit_of(survival, rule, case)
    if limit is not None:
        with pytest.raises(limit.error, match=limit.message):
            COMPILED[survival](combination)
        return
    combination.check(COMPILED[survival](combination), bitwise=False)


@pytest.mark.parametrize(("rule", "case"), FEW)
def test_an_exported_program_survives_a_file(rule: str, case: str) -> None:
    combination = subject(rule, case)
    combination.check(exported_and_saved(combination), bitwise=False)


@pytest.mark.parametrize(("rule", "case"), FEW)
def test_compiles_to_machine_code(rule: str, case: str) -> None:
    combination = subject(rule, case)
    combination.check(inductor(combination), bitwise=False)
