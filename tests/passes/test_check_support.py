from __future__ import annotations

from dataclasses import replace

import pytest

import fxbio
from fxbio.errors import UnreachableWeightError
from fxbio.policy import Plan
from fxbio.policy.assignment import Assignment
from fxbio.site import Origin, Unreachable
from tests.passes.program import program, run
from tests.small import build, policy


def changed(plan: Plan, **changes: object) -> Plan:
    """The plan with other facts about the site of its second assignment."""
    first, second, *rest = plan.assignments
    altered: Assignment = replace(second, site=replace(second.site, **changes))  # type: ignore[arg-type]
    return replace(plan, assignments=(first, altered, *rest))


def planned(rule: str) -> Plan:
    model, x = build()
    return fxbio.plan(model, policy(rule), x)


def test_a_plan_that_can_be_carried_out_passes_unchanged() -> None:
    on = program()
    run("assign-rules,check-support", on)
    assert on.feedback == {}
    assert not on.bound


def test_an_unreachable_site_is_refused_with_its_reason() -> None:
    plan = changed(planned("fa"), unreachable="the weight is inside a fused kernel")
    with pytest.raises(UnreachableWeightError) as caught:
        run("assign-rules,check-support", program(rules=plan))
    assert "site 'second' cannot run rule 'fa': the weight is inside" in str(caught.value)
    assert "decided by" in str(caught.value)


def test_an_unreachable_site_may_stay_at_backprop() -> None:
    plan = changed(planned("bp"), unreachable="the weight is inside a fused kernel")
    run("assign-rules,check-support", program(rules=plan))


@pytest.mark.parametrize("rule", ["signed-init", "{rule: fa, with: {magnitude: matched}}"])
def test_rules_that_read_a_weight_need_one_to_read(rule: str) -> None:
    plan = planned(rule)
    run("assign-rules,check-support", program(rules=plan))
    with pytest.raises(UnreachableWeightError, match="computed inside the forward"):
        run("assign-rules,check-support", program(rules=changed(plan, derived=True, leaf=False)))


def hidden(rule: str, allowed: tuple[str, ...] = (), *, explained: bool = False) -> Plan:
    """A plan for a model in which only the dispatcher saw a weight being applied."""
    origin = Origin("net.py", 7)
    part = Unreachable("core", "applied by compiled code", ("core.w",), origin, explained)
    return replace(planned(rule), unreachable=(part,), allow_backprop=allowed)


def test_a_weight_that_only_the_dispatcher_saw_must_be_allowed() -> None:
    with pytest.raises(UnreachableWeightError) as caught:
        run("assign-rules,check-support", program(rules=hidden("fa")))
    assert "'core.w' is applied by compiled code" in str(caught.value)
    assert "core (net.py:7)" in str(caught.value)
    assert 'allow_backprop: ["core.w"]' in str(caught.value)


@pytest.mark.parametrize(
    "plan",
    [
        ("fa", ("core.w",), False),
        ("fa", ("core",), False),
        ("fa", ("**",), False),
        ("bp", (), False),
        ("fa", (), True),
    ],
)
def test_it_passes_when_allowed_or_explained_or_where_all_is_backprop(
    plan: tuple[str, tuple[str, ...], bool],
) -> None:
    rule, allowed, explained = plan
    run("assign-rules,check-support", program(rules=hidden(rule, allowed, explained=explained)))
