"""One dialect: what a scalar means does not depend on where it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fxbio.errors import FxbioError
from fxbio.files.located_yaml import parse
from fxbio.files.yaml_scalars import to_yaml
from fxbio.models.model_args import parse_model_args
from fxbio.passes import graph_pass as pass_base
from fxbio.passes import registry
from fxbio.passes.registry import make_pass, register_pass
from fxbio.policy import Policy
from fxbio.rules import FeedbackRule, rule
from fxbio.rules import learning_rule as rule_registry
from fxbio.rules.spec import format_spec, parse_spec
from fxbio.study.read_study import load_study
from fxbio.train.config import load_recipe, recipe_from, recipe_yaml

SCALARS = {
    # numbers of YAML 1.2, some of them texts or other numbers in 1.1
    "1e-3": 0.001,
    "1E3": 1000.0,
    "-2.5e+1": -25.0,
    ".5": 0.5,
    "5.": 5.0,
    "3": 3,
    "+3": 3,
    "-0": 0,
    "010": 10,
    "08": 8,
    "0o10": 8,
    "0x1F": 31,
    # words, some of them flags, numbers or dates in 1.1
    "no": "no",
    "NO": "NO",
    "yes": "yes",
    "on": "on",
    "off": "off",
    "y": "y",
    "1_000": "1_000",
    "1:30": "1:30",
    "0b11": "0b11",
    "0o9": "0o9",
    "1e": "1e",
    "2020-01-01": "2020-01-01",
    "nan": "nan",
    "inf": "inf",
    "tRUE": "tRUE",
    "nULL": "nULL",
    # the rest of the core schema
    "true": True,
    "True": True,
    "FALSE": False,
    "null": None,
    "Null": None,
    "~": None,
    "": None,
    "'1'": "1",
    '"true"': "true",
    "!!str 1": "1",
    "!!float 1": 1.0,
    "[no, 1e-3, 010]": ["no", 0.001, 10],
    "{a: 1e-3, b: off}": {"a": 0.001, "b": "off"},
}
"""By the table of tag resolution in the specification of YAML 1.2.2, section 10.3.2."""

Door = Callable[[str, Path], Any]
MODEL = {"model": {"reference": "model.py"}}


@pytest.fixture(autouse=True)
def own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule and a pass that take any value, gone after the test."""
    monkeypatch.setattr(rule_registry, "_RULES", dict(rule_registry._RULES))
    monkeypatch.setattr(registry, "_PASSES", dict(registry._PASSES))

    @rule("own")
    @dataclass(frozen=True)
    class Own(FeedbackRule):
        value: Any = 0

    @register_pass("own-pass")
    @dataclass(frozen=True)
    class OwnPass(pass_base.Pass):
        value: Any = 0


def in_policy(text: str, folder: Path) -> Any:
    policy = Policy.from_yaml(f"version: 1\ndefault: {{rule: own, with: {{value: {text}}}}}")
    return policy.default.options["value"]


def in_entry(text: str, folder: Path) -> Any:
    path = folder / "p.yaml"
    path.write_text(
        f"version: 1\ndefault: bp\nrules:\n- where: a\n  rule: own\n  with:\n    value: {text}\n"
    )
    return Policy.from_yaml(path).entries[0].rule.options["value"]


def in_recipe(text: str, folder: Path) -> Any:
    path = folder / "r.yaml"
    path.write_text(f"model:\n  reference: model.py\n  args:\n    value: {text}\n")
    return load_recipe(path).model.args["value"]


def in_override(text: str, folder: Path) -> Any:
    return recipe_from(MODEL, [f"model.args.value={text}"]).model.args["value"]


STUDY = "recipe: {model: {reference: model.py}}\nrules: [fa]\naxes:\n- {name: a, unit: layer}\n"


def in_study(text: str, folder: Path) -> Any:
    path = folder / "s.yaml"
    path.write_text(f"{STUDY}cluster:\n  value: {text}\n")
    return load_study(path).cluster["value"]


def in_override_of_study(text: str, folder: Path) -> Any:
    path = folder / "s.yaml"
    quoted = text.replace("'", "''")
    path.write_text(f"{STUDY}overrides: ['model.args.value={quoted}']\n")
    return load_study(path).recipe.model.args["value"]


def in_model_argument(text: str, folder: Path) -> Any:
    return parse_model_args([f"value={text}"])["value"]


def in_rule_spec(text: str, folder: Path) -> Any:
    return parse_spec(f"own{{value={text}}}")[1]["value"]


def in_pass_spec(text: str, folder: Path) -> Any:
    return vars(make_pass(f"own-pass{{value={text}}}"))["value"]


DOORS: list[Door] = [
    in_policy,
    in_entry,
    in_recipe,
    in_override,
    in_study,
    in_override_of_study,
    in_model_argument,
    in_rule_spec,
    in_pass_spec,
]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("text", SCALARS)
def test_a_scalar_means_the_same_everywhere(door: Door, text: str, tmp_path: Path) -> None:
    value = door(text, tmp_path)
    assert (type(value), value) == (type(SCALARS[text]), SCALARS[text])


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!int x", "'x' is not a whole number"),
        ("!!int 1_000", "'1_000' is not a whole number"),
        ("!!bool yes", "'yes' is not true or false"),
        ("!!null no", "'no' is not null"),
        ("!!float nan", "'nan' is not a number"),
        ("!!timestamp 2020-01-01", "unknown tag"),
        (".inf", "not finite"),
        (".NaN", "not finite"),
    ],
)
def test_a_tag_promises_what_the_schema_says(
    door: Door, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(FxbioError, match=message):
        door(text, tmp_path)


def through_policy(value: Any) -> Any:
    return Policy.from_yaml(Policy.uniform("own", value=value).to_yaml()).default.options["value"]


def through_recipe(value: Any) -> Any:
    text = recipe_yaml(recipe_from({"model": {"reference": "model.py", "args": {"value": value}}}))
    return recipe_from(parse(text, "r.yaml").plain()).model.args["value"]


def through_spec(value: Any) -> Any:
    return parse_spec(format_spec("own", {"value": value}))[1]["value"]


@pytest.mark.parametrize("way", [through_policy, through_recipe, through_spec])
@pytest.mark.parametrize(
    "value",
    [
        *[value for value in SCALARS.values() if not isinstance(value, str)],
        *SCALARS,
        *("a: b", "#x", "a,b", "{", "]", "-", "? x", "é", " ", "=", "<<", "1.", "1e-3 "),
        *(1e16, 1e-05, 1e308, 2**64 - 1, -(2**63)),
    ],
    ids=repr,
)
def test_what_is_written_is_read_back(way: Callable[[Any], Any], value: Any) -> None:
    again = way(value)
    assert (type(again), again) == (type(value), value)


@pytest.mark.parametrize("text", ["no", "1:30", "0o10", "08", "1e-3", "2020-01-01"])
def test_other_readers_take_written_texts_for_texts(text: str) -> None:
    assert yaml.safe_load(to_yaml({"value": text})) == {"value": text}
