"""The rules of the target family: options, where their targets begin, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from fxbio.errors import RuleError
from fxbio.rules import WeightInfo, available_rules, make_rule
from fxbio.rules.spec import parse_spec
from fxbio.rules.target_propagation import TargetRule

FAMILY = {"tp", "dtp", "sdtp", "ao-sdtp", "drl", "l-drl"}


def made(name: str, **options: Any) -> TargetRule:
    rule = make_rule(name, options)
    assert isinstance(rule, TargetRule)
    return rule


def test_the_family() -> None:
    found = {n: c for n, c in available_rules().items() if c.family == "target"}
    assert found.keys() == FAMILY
    assert all(issubclass(cls, TargetRule) for cls in found.values())
    assert {cls.transports for cls in found.values()} == {"none"}


def test_where_targets_begin() -> None:
    tops = {name: made(name).top for name in FAMILY}
    assert tops == {
        **{"tp": "label", "sdtp": "label", "ao-sdtp": "label"},
        **{"dtp": "bp", "drl": "step", "l-drl": "step"},
    }
    assert made("tp", penultimate="bp").top == "bp"
    assert made("dtp", penultimate="inverse").top == "label"


def test_what_a_rule_does_not_offer_has_a_neutral_value() -> None:
    tp, sdtp = made("tp"), made("sdtp")
    assert (tp.sigma, tp.auxiliary, tp.iterations) == (0.0, 0, 0)
    assert (sdtp.step, sdtp.auxiliary) == (1.0, 0)
    assert "sigma" not in tp.options()
    assert "step" not in sdtp.options()


@pytest.mark.parametrize("blocks", ["layer1.*", ["layer1.*", "layer2.*"], ()])
@pytest.mark.parametrize("name", sorted(FAMILY))
def test_specs_are_read_back(name: str, blocks: Any) -> None:
    rule = made(name, blocks=blocks, inverse="inverses.py:make", reduction="sum")
    assert make_rule(*parse_spec(rule.spec())) == rule
    assert isinstance(rule.blocks, tuple)
    assert hash(rule) == hash(make_rule(*parse_spec(rule.spec())))


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_scales_of_norms_have_no_targets(name: str) -> None:
    norm = WeightInfo("norm.weight", "norm", (4,))
    assert "not norm" in str(make_rule(name).unsupported(norm))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dtp", {"step": 0}, "step must be a positive number, not 0"),
        ("tp", {"step": float("inf")}, "step must be a positive number, not inf"),
        ("sdtp", {"sigma": -1}, "sigma must be a positive number, not -1"),
        ("drl", {"feedback_lr": 0}, "feedback_lr must be a positive number, not 0"),
        ("ao-sdtp", {"auxiliary": 0}, "auxiliary must be a whole number ≥ 1, not 0"),
        ("l-drl", {"iterations": -1}, "iterations must be a whole number ≥ 0, not -1"),
        ("l-drl", {"feedback_momentum": 1}, "feedback_momentum must be at least 0 and below 1"),
        ("dtp", {"penultimate": "inverted"}, "unknown penultimate 'inverted'"),
        ("dtp", {"reduction": "none"}, "unknown reduction 'none'"),
        ("dtp", {"blocks": 3}, "blocks must be a string or a list of strings, not 3"),
        ("tp", {"sigma": 0.1}, "rule 'tp' has no option 'sigma'"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError) as caught:
        make_rule(name, options)
    assert message in str(caught.value)
