"""Checks that what a recipe asks for and the rules of its policy go together."""

from __future__ import annotations

from fxbio.errors import ConfigError
from fxbio.policy import Plan
from fxbio.policy.assignment import Assignment
from fxbio.rules import Rule, TargetRule
from fxbio.train.config import Recipe

__all__ = ["check_rules"]


def check_rules(recipe: Recipe, plan: Plan) -> None:
    """Refuse settings under which some rule would not learn what it says.

    Raises:
        ConfigError: with the setting, the rule and the first site that has it.
    """
    train = recipe.train
    if train.precision == "fp16":
        _check_scaled(plan)
    if train.accumulate > 1:
        _check_stepwise(plan, f"train.accumulate={train.accumulate}", "one part is not enough")
    if train.takes_turns:
        _check_stepwise(plan, _turns(recipe), "so there is nothing to take turns with")
        _check_inverses(plan, _turns(recipe))


def _check_scaled(plan: Plan) -> None:
    for assignment, rule in plan.ruled_by(Rule):
        reason = rule.unscalable()
        if reason is not None:
            raise ConfigError(
                f"rule '{rule.name}' cannot learn with train.precision=fp16, which scales the loss",
                notes=[reason, _place(assignment)],
                help="train.precision=bf16 needs no scaling",
            )


def _check_stepwise(plan: Plan, setting: str, why: str) -> None:
    for assignment, rule in plan.ruled_by(TargetRule):
        if not rule.iterations:
            continue
        trained = "its inverses are trained on a whole batch before each step"
        raise ConfigError(
            f"{setting} does not go with rule '{rule}'",
            notes=[f"{trained}, {why}", _place(assignment)],
            help="leave it out, or have the backward pass train them: with: {iterations: 0}",
        )


def _check_inverses(plan: Plan, setting: str) -> None:
    if plan.ruled_by(TargetRule):
        return
    raise ConfigError(
        f"{setting} is about learned inverses, and no rule of the policy has any",
        notes=[f"its rules: {', '.join(total.rule for total in plan.totals())}"],
        help="leave it out, or choose a rule of target propagation: fxbio rules",
    )


def _turns(recipe: Recipe) -> str:
    return "train.phases" if recipe.train.phases else "train.inverse_epochs"


def _place(assignment: Assignment) -> str:
    return f"the first site that has it: {assignment.site.name}, by {assignment.decided_by}"
