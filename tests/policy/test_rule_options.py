"""Options of a rule that are wrong: the caret stands under the one that is to blame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fxbio.errors import ConfigError, FxbioError, PolicyError, RuleError
from fxbio.policy import Policy
from fxbio.rules import FeedbackRule, make_rule, rule
from fxbio.rules import learning_rule as rule_registry
from fxbio.study.read_study import load_study
from tests.policy.toy import policy

BLAMED = [
    ("fa", "magnitude", "xia"),
    ("fa", "magnitude", "-1"),
    ("fa", "magnitude", "1e31"),
    ("fa", "distribution", "wide"),
    ("fa", "magnitud", "1"),
    ("brsf", "redraw_every", "0"),
    ("dfa", "at", "output"),
    ("dfa", "projection", "conv"),
    ("dfa", "source", "[1]"),
    ("dfa", "density", "0"),
    ("dfa", "init", "wide"),
    ("dfa", "block", "a"),
    ("wm", "samples", "1.5"),
    ("wm", "sigma", "-1"),
    ("dtp", "sigma", "0"),
    ("l-drl", "iterations", "-1"),
    ("l-drl", "feedback_momentum", "1"),
    ("dgl", "pool", "true"),
]
"""A rule, an option, and a value that it cannot have."""


def column(line: str, option: str, value: str) -> int:
    """Where the caret belongs: under the value, or under the key where that is unknown."""
    known = option != "magnitud"
    return line.index(f"{option}: ") + (len(option) + 2 if known else 0) + 1


@pytest.mark.parametrize(("name", "option", "value"), BLAMED)
@pytest.mark.parametrize("beside", ["{}", "{}, distribution: auto", "distribution: auto, {}"])
def test_in_a_policy(name: str, option: str, value: str, beside: str) -> None:
    if name != "fa" or option == "distribution":
        beside = "{}"
    options = beside.format(f"{option}: {value}")
    line = f"default: {{rule: {name}, with: {{{options}}}}}"
    with pytest.raises(PolicyError) as caught:
        policy(f"version: 1\n{line}")
    assert caught.value.location is not None
    assert (caught.value.location.line, caught.value.location.column) == (
        2,
        column(line, option, value),
    )


@pytest.mark.parametrize(("name", "option", "value"), BLAMED)
def test_in_a_study(name: str, option: str, value: str, tmp_path: Path) -> None:
    line = f"rules: [{{rule: {name}, options: {{{option}: {value}}}}}]"
    path = tmp_path / "s.yaml"
    path.write_text(
        f"recipe: {{model: {{reference: m.py}}}}\n{line}\naxes: [{{name: a, unit: layer}}]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    assert caught.value.location is not None
    assert (caught.value.location.line, caught.value.location.column) == (
        2,
        column(line, option, value),
    )


@pytest.mark.parametrize(("name", "option", "value"), BLAMED)
def test_in_python(name: str, option: str, value: str) -> None:
    options = policy(f"version: 1\ndefault: {{rule: any-options, with: {{{option}: {value}}}}}")
    with pytest.raises(RuleError) as caught:
        make_rule(name, options.default.options)
    assert caught.value.option == option


@pytest.fixture(autouse=True)
def any_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule with every option of the table, to read values with; gone after the test."""
    monkeypatch.setattr(rule_registry, "_RULES", dict(rule_registry._RULES))

    fields = {option: Any for _, option, _ in BLAMED}
    body = {"__annotations__": fields, "__module__": __name__, **dict.fromkeys(fields)}
    rule("any-options")(dataclass(frozen=True)(type("AnyOptions", (FeedbackRule,), body)))


@pytest.mark.parametrize(
    ("blamed", "underlined"), [("option='gain', ", "0"), ("", "picky")], ids=["named", "unnamed"]
)
def test_a_users_rule_says_which_option_it_means(blamed: str, underlined: str) -> None:
    space: dict[str, Any] = {
        "FeedbackRule": FeedbackRule,
        "RuleError": RuleError,
        "__name__": __name__,
    }
    exec(
        "class Picky(FeedbackRule):\n"
        "    gain: float = 1.0\n"
        "    def __post_init__(self):\n"
        f"        if not self.gain: raise RuleError('gain is nothing', {blamed}help='more')\n",
        space,
    )
    rule("picky")(dataclass(frozen=True)(space["Picky"]))
    line = "default: {rule: picky, with: {gain: 0}}"
    with pytest.raises(PolicyError, match="gain is nothing") as caught:
        policy(f"version: 1\n{line}")
    assert caught.value.location is not None
    assert caught.value.location.column == line.index(underlined) + 1


@pytest.fixture
def own_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's rule that checks nothing by itself, gone after the test."""
    monkeypatch.setattr(rule_registry, "_RULES", dict(rule_registry._RULES))

    @rule("own")
    @dataclass(frozen=True)
    class Own(FeedbackRule):
        gain: float
        steps: int = 1
        loud: bool = False


@pytest.mark.usefixtures("own_rule")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{}", "rule 'own' needs the option 'gain'"),
        ("{gain: loud}", "option 'gain' of rule 'own' cannot be 'loud'"),
        ("{gain: 1, steps: 1.5}", "option 'steps' of rule 'own' cannot be 1.5"),
        ("{gain: 1, steps: true}", "option 'steps' of rule 'own' cannot be True"),
        ("{gain: 1, loud: 1}", "option 'loud' of rule 'own' cannot be 1"),
        ("{gian: 1}", "no option 'gian'"),
    ],
)
def test_options_of_a_users_rule_are_checked_for_it(options: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        policy(f"version: 1\ndefault: {{rule: own, with: {options}}}")


@pytest.mark.usefixtures("own_rule")
def test_options_of_a_users_rule_that_fit() -> None:
    options: dict[str, Any] = {"gain": 1, "steps": 2, "loud": True}
    assert Policy.uniform("own", **options).default.options == options


@pytest.mark.usefixtures("own_rule")
@pytest.mark.parametrize(("options", "message"), [({"gain": "x"}, "cannot be 'x'"), ({}, "needs")])
def test_types_and_names_are_checked_in_python_too(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FxbioError, match=message):
        make_rule("own", options)
