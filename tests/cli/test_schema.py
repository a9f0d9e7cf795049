"""The schemas that editors use: shipped as they are printed, and of one mind with the readers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from jsonschema import Draft202012Validator

from fxbio.errors import FxbioError
from fxbio.files.fields import Option, ReadAs, mark_of
from fxbio.files.located_yaml import parse
from fxbio.files.typed_yaml import entry_type, keys_of, section_of
from fxbio.policy import Policy
from fxbio.policy.where_values import OPS
from fxbio.rules import learning_rule as rule_registry
from fxbio.study.read_study import load_study
from fxbio.study.study_sections import StudyConfig
from fxbio.train.config import Recipe, load_recipe

Command = Callable[..., Result]
ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
FILES: Mapping[str, tuple[Path, type[Any], Callable[[Path], object]]] = {
    "policy": (ROOT / "fxbio/policy/policy.schema.json", Policy, Policy.from_yaml),
    "recipe": (ROOT / "fxbio/train/config/recipe.schema.json", Recipe, load_recipe),
    "study": (ROOT / "fxbio/study/study.schema.json", StudyConfig, load_study),
}
WITH_A_PLUGIN = EXAMPLES / "policies/ternary.yaml"
FOLDERS = {
    "policy": ("policies/*", "recipes/policies/*", "tour/policy"),
    "recipe": ("recipes/*", "tour/recipe"),
    "study": ("studies/*", "tour/study"),
}
EXAMPLE_FILES = [
    (kind, path)
    for kind, globs in FOLDERS.items()
    for glob in globs
    for path in sorted(EXAMPLES.glob(f"{glob}.yaml"))
    if path != WITH_A_PLUGIN
]


@pytest.fixture(autouse=True)
def own_rules_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules of fxbio itself: a plug-in loaded by another test does not count."""
    rules = rule_registry._RULES.items()
    own = {name: cls for name, cls in rules if cls.__module__.startswith("fxbio.")}
    monkeypatch.setattr(rule_registry, "_RULES", own)


def shipped(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(FILES[kind][0].read_text(encoding="utf-8"))
    return schema


def is_valid(kind: str, text: str, schema: dict[str, Any] | None = None) -> bool:
    validator = Draft202012Validator(schema or shipped(kind))
    return bool(validator.is_valid(parse(text, kind).plain()))


@pytest.mark.parametrize("kind", FILES)
def test_what_is_shipped_is_what_is_printed(fxbio_command: Command, kind: str) -> None:
    printed = fxbio_command("schema", kind).stdout
    path = FILES[kind][0].relative_to(ROOT)
    assert path.read_text(encoding="utf-8") == printed, f"run: fxbio schema {kind} > {path}"
    Draft202012Validator.check_schema(json.loads(printed))


def test_there_are_three_kinds(fxbio_command: Command) -> None:
    result = fxbio_command("schema", "plan")
    assert result.exit_code == 2
    assert "'policy', 'recipe', 'study'" in result.stderr


def test_a_plugin_adds_its_rules(fxbio_command: Command) -> None:
    text = WITH_A_PLUGIN.read_text()
    plugin = str(EXAMPLES / "rules/ternary.py")
    schema = json.loads(fxbio_command("schema", "policy", "--plugin", plugin).stdout)
    assert is_valid("policy", text, schema)
    assert not is_valid("policy", text)


@pytest.mark.parametrize(
    ("kind", "path"),
    EXAMPLE_FILES,
    ids=[str(path.relative_to(EXAMPLES)) for _, path in EXAMPLE_FILES],
)
def test_examples_are_valid(kind: str, path: Path) -> None:
    errors = Draft202012Validator(shipped(kind)).iter_errors(
        parse(path.read_text(), path.name).plain()
    )
    assert [error.message for error in errors] == []


HEAD = {
    "policy": "version: 1\ndefault: bp\n",
    "recipe": "model: {reference: model.py}\n",
    "study": "recipe: {model: {reference: model.py}}\nrules: [fa]\n",
}
AXES = "axes: [{name: a, unit: layer}]\n"

RIGHT = [
    ("policy", "seed: 3"),
    ("policy", "rules: [{where: 'a.**::conv', rule: usf, with: {magnitude: 1}}]"),
    ("policy", "rules: [{where: {index: [0, -1]}, rule: fa, expect: {min: 1, max: 3}}]"),
    ("policy", "rules: [{where: {index: '2:5', op: conv}, rule: fa}]"),
    ("policy", "rules: [{where: {any: [{first: true}, {last: 2}]}, rule: fa}]"),
    ("policy", "rules: [{where: {any: a, not: b}, rule: fa}]"),
    ("policy", "rules: [{where: {depth: [null, 0.5]}, rule: frozen, name: x}]"),
    ("policy", "rules: [{where: {between: [a, 'b.**']}, rule: brsf}]"),
    ("policy", "rules: [{where: a, rule: dfa, with: {source: head}}]"),
    ("policy", "rules: [{where: a, rule: bp, error: sign}]"),
    ("policy", "rules: [{where: a, rule: fa, error: [{topk: {k: 3}}, 'clip{bound=1}']}]"),
    ("policy", "allow_backprop: a.b"),
    ("policy", "allow_backprop: [a.b, c]"),
    ("recipe", "optim:"),
    ("recipe", "optim: {lr: 1, groups: [{params: norms}, {where: {last: true}, lr: 2}]}"),
    ("recipe", "optim: {groups: [{where: 'a.**::conv'}]}"),
    ("recipe", "policy: {file: null, rule: fa, options: {magnitude: 2}, plugins: a.py}"),
    ("recipe", "schedule: {name: multistep, milestones: [1, 2.5]}"),
    ("recipe", "train: {ema: 0.9, phases: [inverse, forward], tf32: null}"),
    ("recipe", "data: {path: ../data, channels: 1}"),
    ("study", AXES),
    ("study", AXES + "overrides: optim.lr=1\nseeds: [0, 1]\ncontrol: true"),
    ("study", "axes: [{name: a, unit: block, blocks: b, rules: fa, within: {first: 3}}]"),
    ("study", "axes: [{name: a, option: {rule: fa, option: magnitude, values: [1, xiao]}}]"),
]

WRONG = [
    ("policy", "sed: 3"),
    ("policy", "rules: [{where: a, rule: bp, error: []}]"),
    ("policy", "rules: [{where: a, rule: bp, error: 3}]"),
    ("policy", "seed: -1"),
    ("policy", "seed: 1.5"),
    ("policy", "persist_feedback: yes"),
    ("policy", "rules: {}"),
    ("policy", "rules: [{where: a}]"),
    ("policy", "rules: [{where: a, rule: faa}]"),
    ("policy", "rules: [{where: a, rule: fa, with: {magnitud: 1}}]"),
    ("policy", "rules: [{where: a, rule: fa, with: {magnitude: xia}}]"),
    ("policy", "rules: [{where: a, rule: fa, on_unsupported: skip}]"),
    ("policy", "rules: [{where: a, rule: fa, name: null}]"),
    ("policy", "rules: [{where: a, rule: fa, expect: {count: -1}}]"),
    ("policy", "rules: [{where: a, rule: fa, expect: {count: null}}]"),
    ("policy", "rules: [{where: {modul: a}, rule: fa}]"),
    ("policy", "rules: [{where: {module: []}, rule: fa}]"),
    ("policy", "rules: [{where: {module: [3]}, rule: fa}]"),
    ("policy", "rules: [{where: {op: [conv, dense]}, rule: fa}]"),
    ("policy", "rules: [{where: {not: null}, rule: fa}]"),
    ("policy", "rules: [{where: {any: []}, rule: fa}]"),
    ("policy", "rules: [{where: {any: [{op: dense}]}, rule: fa}]"),
    ("policy", "rules: [{where: {depth: [1]}, rule: fa}]"),
    ("policy", "rules: [{where: {index: a}, rule: fa}]"),
    ("policy", "rules: [{where: {first: 0}, rule: fa}]"),
    ("policy", "rules: [{where: {last: false}, rule: fa}]"),
    ("recipe", "optim: {lrr: 1}"),
    ("recipe", "optim: {lr: fast}"),
    ("recipe", "optim: {groups: [{where: {modul: a}}]}"),
    ("recipe", "optim: {groups: [{params: feedbak}]}"),
    ("recipe", "oprim: {lr: 1}"),
    ("recipe", "train: {precision: fp8}"),
    ("recipe", "train: {epochs: 1.5}"),
    ("recipe", "train: {compile: 1}"),
    ("recipe", "train: 3"),
    ("recipe", "schedule: {milestones: 3}"),
    ("recipe", "data: {path: [a]}"),
    ("recipe", "data: {channels: 2}"),
    ("study", "axis: []"),
    ("study", AXES + "seeds: [a]"),
    ("study", AXES + "rules: [{rule: fa, option: {}}]"),
    ("study", "axes: [{name: a, unit: layers}]"),
    ("study", "axes: [{unit: layer}]"),
    ("study", "axes: [{name: a, unit: layer, within: {modul: b}}]"),
    ("study", "axes: [{name: a, option: {rule: fa, values: [1]}}]"),
]


def written(kind: str, text: str, folder: Path) -> Path:
    path = folder / f"{kind}.yaml"
    head = "" if "rules" in text and kind == "study" else "rules: [fa]\n"
    path.write_text(HEAD[kind].replace("rules: [fa]\n", head) + text)
    return path


@pytest.mark.parametrize(("kind", "text"), RIGHT)
def test_what_is_read_is_valid(kind: str, text: str, tmp_path: Path) -> None:
    path = written(kind, text, tmp_path)
    FILES[kind][2](path)
    assert is_valid(kind, path.read_text())


@pytest.mark.parametrize(("kind", "text"), WRONG)
def test_what_is_refused_is_not_valid(kind: str, text: str, tmp_path: Path) -> None:
    path = written(kind, text, tmp_path)
    with pytest.raises(FxbioError):
        FILES[kind][2](path)
    assert not is_valid(kind, path.read_text())


def sections(cls: type[Any]) -> set[type[Any]]:
    """A dataclass with all that it holds."""
    found, todo = set(), [cls]
    while todo:
        found.add(section := todo.pop())
        hints = [hint for option in keys_of(section).values() for hint in parts(option)]
        inner = {section_of(hint) for hint in hints}
        todo += [part for part in inner if part is not None and part not in found]
    return found


def parts(option: Option) -> tuple[Any, ...]:
    own = mark_of(option.marks, ReadAs)
    hint = option.annotated if own is None else own.schema
    return () if isinstance(hint, dict) else (hint, entry_type(hint))


@pytest.mark.parametrize("kind", FILES)
def test_every_key_is_there_and_described(kind: str) -> None:
    schema = shipped(kind)
    for cls in sections(FILES[kind][1]):
        part = schema if cls is FILES[kind][1] else schema["$defs"][cls.__name__]
        assert part["additionalProperties"] is False
        assert part["properties"].keys() == keys_of(cls).keys()
        assert all(value["description"].endswith(".") for value in part["properties"].values())
        required = {f.name for f in dataclasses.fields(cls) if f.default is f.default_factory}
        assert set(part.get("required", ())) >= required & part["properties"].keys()


def test_rules_and_aliases_are_offered() -> None:
    names = shipped("policy")["$defs"]["RuleChoice.more"]["properties"]["rule"]["anyOf"]
    offered = {name for rule in names for name in rule["enum"]}
    assert {"bp", "backprop", "fa", "feedback-alignment", "usf", "signed-init", "stop"} <= offered


def options_of_rule(name: str) -> dict[str, Any]:
    branches = shipped("policy")["$defs"]["RuleChoice.more"]["allOf"]
    (branch,) = (b for b in branches if name in b["if"]["properties"]["rule"]["enum"])
    options: dict[str, Any] = branch["then"]["properties"]["with"]["properties"]
    return options


def test_options_follow_the_rule() -> None:
    options = options_of_rule("brsf")
    assert options["redraw_every"] == {
        "type": "integer",
        "default": 1,
        "description": "Number of optimizer steps between two draws.",
    }
    assert options["distribution"]["enum"] == ["auto", "normal", "uniform"]
    assert {"type": "number"} in options["magnitude"]["anyOf"]


def test_a_list_may_be_written_as_its_only_item() -> None:
    source, text = options_of_rule("dfa")["source"], {"type": "string"}
    assert source["anyOf"] == [text, {"type": "array", "items": text}]
    assert source["default"] == []


def test_ops_are_those_of_the_reader() -> None:
    op = shipped("policy")["$defs"]["Where"]["properties"]["op"]
    assert op["anyOf"][0]["enum"] == list(OPS)


def test_examples_of_keys_are_valid() -> None:
    for kind in FILES:
        schema = shipped(kind)
        for part in (schema, *schema["$defs"].values()):
            for value in part.get("properties", {}).values():
                here = {**value, "$defs": schema["$defs"]}
                for example in value.get("examples", ()):
                    Draft202012Validator(here).validate(example)
                if "default" in value:
                    Draft202012Validator(here).validate(value["default"])
