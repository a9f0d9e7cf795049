from __future__ import annotations

import pytest

import fxbio
from fxbio.errors import PassError, PolicyError
from fxbio.passes import PassResult
from fxbio.passes.assign_rules import AssignRules
from tests.passes.program import program, run
from tests.small import build, policy


def test_the_policy_is_resolved() -> None:
    on = program(rules="usf")
    result = AssignRules().run(on)
    assert result == PassResult(True, "3 sites: usf × 3")
    assert [a.rule for a in on.planned().assignments] == ["usf"] * 3


def test_a_plan_is_taken_as_it_is() -> None:
    model, x = build()
    plan = fxbio.plan(model, policy("usf"), x)
    on = program(rules=plan)
    on.policy = policy("fa")
    assert AssignRules().run(on) == PassResult(False, "the plan was given")
    assert on.plan is plan


def test_a_plan_of_another_model_is_refused() -> None:
    other, x = build("functional")
    plan = fxbio.plan(other, policy(), x)
    with pytest.raises(PassError, match="the plan was made for another model") as caught:
        run("assign-rules", program(rules=plan))
    assert "plan: Functional" in str(caught.value)
    assert "model: Layers" in str(caught.value)
    assert "make the plan anew" in str(caught.value)


def test_without_policy_and_plan() -> None:
    on = program()
    on.policy = None
    with pytest.raises(PassError, match="neither a policy nor a plan"):
        run("assign-rules", on)


def test_a_policy_that_does_not_fit_says_so_as_everywhere() -> None:
    bad = policy("bp", rules="[{where: {module: nowhere}, rule: fa}]")
    with pytest.raises(PolicyError, match="nowhere"):
        run("assign-rules", program(rules=bad))
