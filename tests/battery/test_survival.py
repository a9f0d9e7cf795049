"""Every rule × op × survival: the forward is the stock model's, the gradients are the rule's."""

from __future__ import annotations

import pytest

from fxbio.rules import available_rules
from tests.battery.harness import combinations, subject
from tests.battery.limits import limit_of
from tests.battery.rules import RULES
from tests.battery.survivals import SURVIVALS


def test_the_table_covers_the_registry() -> None:
    own = {n: r for n, r in available_rules().items() if r.__module__.startswith("fxbio.")}
    # The other families have no feedback weight at a site.
    assert {n for n, r in own.items() if r.family == "asymmetric"} == set(RULES)


@pytest.mark.parametrize(("rule", "case"), combinations())
@pytest.mark.parametrize("survival", SURVIVALS)
def test_survives(survival: str, rule: str, case: str) -> None:
    combination = subject(rule, case)
    limit = limit_of(survival, rule, case)
    if limit is not None:
        with pytest.raises(limit.error, match=limit.message):
            SURVIVALS[survival](combination)
        return
    combination.check(SURVIVALS[survival](combination))
