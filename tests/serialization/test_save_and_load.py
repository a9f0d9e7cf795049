"""A transformed model as a folder, and the same model again."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxbio
from fxbio.errors import ModelError, RecordError
from fxbio.rules import learning_rule as rules_registry
from fxbio.runtime.install import bound_modules
from fxbio.runtime.module_state import STATE
from fxbio.serialization.feedback_state import digests, scales
from fxbio.serialization.record import RECORD, ModelSource
from tests.routes import nets as routes
from tests.small import BUILDERS, build, policy, snapshot, step, train

EXAMPLES = Path(__file__).parents[2] / "examples"
RULES = {
    "fa": "fa",
    "usf": "usf",
    "frsf": "frsf",
    "brsf": "brsf",
    "brsf-slow": "{rule: brsf, with: {redraw_every: 3}}",
    "signed-init": "signed-init",
    "frozen": "frozen",
    "stop": "stop",
    "usf-matched": "{rule: usf, with: {magnitude: matched}}",
    "fa-matched": "{rule: fa, with: {magnitude: matched}}",
    "brsf-matched": "{rule: brsf, with: {magnitude: matched}}",
}


def made(rule: str = "fa", kind: str = "layers", **settings: Any) -> nn.Module:
    model, x = build(kind)
    return fxbio.transform(model, policy(RULES[rule], **settings), x, inplace=True)


def stock(kind: str = "layers") -> nn.Module:
    """Of the same architecture, with other weights."""
    return build(kind, seed=99)[0]


def assert_same(found: nn.Module, wanted: nn.Module, x: torch.Tensor) -> None:
    assert digests(found) == digests(wanted)
    assert scales(found) == scales(wanted)
    mine, theirs = step(found, x), step(wanted, x)
    assert list(mine) == list(theirs)
    for name, value in theirs.items():
        assert torch.equal(mine[name], value), name


def assert_continues(found: nn.Module, wanted: nn.Module, x: torch.Tensor) -> None:
    """Training goes on identically, redraws included."""
    for model in (found, wanted):
        torch.manual_seed(5)
        train(model, x, 4)
    assert_same(found, wanted, x)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", ["layers", "chunked"])
def test_a_trained_model_comes_back_and_goes_on(tmp_path: Path, rule: str, kind: str) -> None:
    model, x = made(rule, kind), build(kind)[1]
    train(model, x, 5)
    fxbio.save(model, tmp_path / "out")
    loaded = fxbio.load(tmp_path / "out", stock(kind), x)
    assert_same(loaded, model, x)
    assert fxbio.verify(loaded, x).ok
    assert_continues(loaded, model, x)


@pytest.mark.parametrize(("rule", "changes"), [("brsf", 4), ("brsf-slow", 1), ("frsf", 0)])
def test_a_loaded_model_redraws_when_its_rule_says_so(
    tmp_path: Path, rule: str, changes: int
) -> None:
    model, x = made(rule), build()[1]
    train(model, x, 1)
    fxbio.save(model, tmp_path / "out")
    loaded = fxbio.load(tmp_path / "out", stock(), x)
    seen = [digests(loaded)["second:second.weight:8x8"]]
    for _ in range(4):
        train(loaded, x, 1)
        seen.append(digests(loaded)["second:second.weight:8x8"])
    assert sum(before != after for before, after in itertools.pairwise(seen)) == changes


@pytest.mark.parametrize("kind", ["convolutions", "functional", "attention"])
def test_other_kinds_of_sites_come_back(tmp_path: Path, kind: str) -> None:
    model, x = made("frsf", kind), build(kind)[1]
    train(model, x, 2)
    fxbio.save(model, tmp_path / "out")
    assert_same(fxbio.load(tmp_path / "out", stock(kind), x), model, x)


@pytest.mark.parametrize("rule", ["fa", "brsf", "signed-init"])
def test_persistent_feedback_is_in_the_weights(tmp_path: Path, rule: str) -> None:
    model, x = made(rule, persist_feedback="true"), build()[1]
    train(model, x, 2)
    assert "second.fxbio_feedback_0" in model.state_dict()
    fxbio.save(model, tmp_path / "out")
    state = torch.load(tmp_path / "out" / "weights.pt", weights_only=True)
    assert list(state) == list(model.state_dict())
    loaded = fxbio.load(tmp_path / "out", stock(), x)
    assert_same(loaded, model, x)
    assert list(loaded.state_dict()) == list(model.state_dict())
    assert_continues(loaded, model, x)


def test_the_files(tmp_path: Path) -> None:
    model = made("frsf")
    fxbio.save(model, tmp_path / "deep" / "out", source=ModelSource("m.py", {"width": 2}))
    folder = tmp_path / "deep" / "out"
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) == [
        "plan.json",
        "plan.md",
        "policy.yaml",
        "record.json",
        "rewritten",
        "rewritten/Layers.py",
        "signature",
        "weights.pt",
    ]
    plan = model._fxbio_record.plan
    assert fxbio.Plan.from_json((folder / "plan.json").read_text()) == plan
    assert (folder / "policy.yaml").read_text() == plan.policy_text == "version: 1\ndefault: frsf"
    record = json.loads((folder / "record.json").read_text())
    assert record["source"]["model_args"] == {"width": 2}
    assert record["versions"]["torch"] == torch.__version__
    assert record["feedback"] == digests(model)


def test_the_weights_are_a_stock_state_dict(tmp_path: Path) -> None:
    model = made("fa", "convolutions")
    fxbio.save(model, tmp_path / "out")
    state = torch.load(tmp_path / "out" / "weights.pt", weights_only=True)
    assert type(state) is dict
    plain = stock("convolutions")
    plain.load_state_dict(state, strict=True)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("rule", RULES)
def test_feedback_is_stored_only_where_a_seed_cannot_bring_it_back(
    tmp_path: Path, rule: str
) -> None:
    fxbio.save(made(rule), tmp_path / "out")
    expected = rule in ("signed-init", "fa-matched", "brsf-matched")
    assert (tmp_path / "out" / "feedback.pt").exists() is expected


class Extra(nn.Module):
    """A module with state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.count = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(x)
        return result

    def get_extra_state(self) -> dict[str, int]:
        return {"count": self.count}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.count = state["count"]


def test_extra_state_is_kept(tmp_path: Path) -> None:
    x = torch.randn(4, 6)
    model = fxbio.transform(Extra(), policy(), x)
    model.count = 7
    fxbio.save(model, tmp_path / "out")
    assert fxbio.load(tmp_path / "out", Extra(), x).count == 7


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_rewritten_code_is_python_that_names_rules_and_lines(tmp_path: Path, kind: str) -> None:
    model, x = build(kind)
    (tmp_path / "mine.yaml").write_text("version: 1\nseed: 3\ndefault: usf\n")
    rules = fxbio.Policy.from_yaml(tmp_path / "mine.yaml")
    model = fxbio.transform(model, rules, x)
    fxbio.save(model, tmp_path / "out")
    (path,) = (tmp_path / "out" / "rewritten").iterdir()
    code = path.read_text()
    compile(code, str(path), "exec")
    commented = [line for line in code.splitlines() if line.endswith("# usf ← mine.yaml:3 default")]
    sites = model._fxbio_record.plan.rewritten()
    assert len(commented) == len(sites)
    assert f"{len(sites)} lines are rewritten" in code


# What goes wrong while writing


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(RecordError, match="exists already"):
        fxbio.save(made(), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_overwriting_replaces_the_whole_folder(tmp_path: Path) -> None:
    fxbio.save(made("signed-init"), tmp_path / "out")
    assert (tmp_path / "out" / "feedback.pt").exists()
    fxbio.save(made("usf"), tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "feedback.pt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert_same(fxbio.load(tmp_path / "out", stock(), build()[1]), made("usf"), build()[1])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("call", [1, 2])
def test_a_failure_while_writing_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool, call: int
) -> None:
    if overwrite:
        fxbio.save(made("usf"), tmp_path / "out")
    before = contents(tmp_path)
    save, calls = torch.save, []

    def failing(value: object, path: Path) -> None:
        calls.append(path)
        save(value, path)
        if len(calls) == call:
            raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(OSError, match="no space"):
        fxbio.save(made("signed-init"), tmp_path / "out", overwrite=overwrite)
    assert contents(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == (["out"] if overwrite else [])


def test_a_failure_of_the_exchange_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fxbio.save(made("usf"), tmp_path / "out")
    before = contents(tmp_path)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target.name == "out" and "-old-" not in self.name:
            raise OSError("busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="busy"):
        fxbio.save(made("fa"), tmp_path / "out", overwrite=True)
    assert contents(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_stock_model_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a transformed model"):
        fxbio.save(stock(), tmp_path / "deep" / "out")
    assert list(tmp_path.iterdir()) == []


# What goes wrong while reading


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    fxbio.save(made("signed-init"), tmp_path / "out")
    return tmp_path / "out"


def _edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            del content[key]
        else:
            content[key] = value
    path.write_text(json.dumps(content))


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


DAMAGES: dict[str, tuple[Any, str]] = {
    "no record": (lambda f: (f / "record.json").unlink(), "missing: record.json"),
    "no weights": (lambda f: (f / "weights.pt").unlink(), "missing: weights.pt"),
    "no plan": (lambda f: (f / "plan.json").unlink(), "missing: plan.json"),
    "no feedback": (lambda f: (f / "feedback.pt").unlink(), "'feedback.pt' is missing"),
    "truncated weights": (lambda f: _truncate(f / "weights.pt"), "weights.pt' is damaged"),
    "truncated feedback": (lambda f: _truncate(f / "feedback.pt"), "feedback.pt' is damaged"),
    "truncated plan": (lambda f: _truncate(f / "plan.json"), "plan.json' is damaged"),
    "edited plan": (
        lambda f: (f / "plan.json").write_text(
            (f / "plan.json").read_text().replace('"signed-init"', '"usf"', 1)
        ),
        "plan.json' is damaged or was edited",
    ),
    "truncated record": (lambda f: _truncate(f / "record.json"), "record.json' is damaged"),
    "record without text": (
        lambda f: (f / "record.json").write_bytes(b"\xff\xfe\x00"),
        "record.json' is damaged",
    ),
    "record that is a list": (
        lambda f: (f / "record.json").write_text("[]"),
        "written in format None",
    ),
    "other format": (
        lambda f: _edit(f / "record.json", schema=2),
        "written in format 2, this is format 1",
    ),
    "record without scales": (
        lambda f: _edit(f / "record.json", scales=None),
        "it has no scales",
    ),
    "other scales": (
        lambda f: _edit(f / "record.json", scales={"elsewhere": 1.0}),
        "the record is of another model",
    ),
    "other feedback": (
        lambda f: _edit(f / "record.json", feedback={"first:first.weight:8x6": "00"}),
        "not the feedback that was saved",
    ),
    "other plan": (
        lambda f: _edit(f / "record.json", plan="00"),
        "not the plan of its record.json",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_a_clear_error_and_leaves_the_model_alone(
    saved: Path, damage: str
) -> None:
    do, says = DAMAGES[damage]
    do(saved)
    model, x = stock(), build()[1]
    before = snapshot(model)
    with pytest.raises(RecordError) as caught:
        fxbio.load(saved, model, x)
    assert says in str(caught.value)
    assert snapshot(model) == before


def test_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not a transformed model"):
        fxbio.load(tmp_path / "nowhere", stock())


@pytest.mark.parametrize("kind", ["functional", "attention", "chunked"])
def test_a_record_of_another_model(saved: Path, kind: str) -> None:
    model, x = build(kind)
    before = snapshot(model)
    with pytest.raises(RecordError, match=f"does not fit this {type(model).__name__}") as caught:
        fxbio.load(saved, model, x)
    assert "the plan was made for another model" in str(caught.value)
    assert snapshot(model) == before


def test_weights_that_do_not_fit_leave_the_model_alone(saved: Path) -> None:
    """Sites agree, but a parameter that is no site does not."""
    model, x = stock(), build()[1]
    model.register_parameter("gain", nn.Parameter(torch.ones(2)))
    before = snapshot(model)
    with pytest.raises(RecordError, match="do not fit Layers") as caught:
        fxbio.load(saved, model, x)
    assert "missing: gain" in str(caught.value)
    assert snapshot(model) == before


def test_a_transformed_model_is_no_stock_model(saved: Path) -> None:
    model = made("usf")
    with pytest.raises(RecordError, match="does not fit") as caught:
        fxbio.load(saved, model, build()[1])
    assert "transformed already" in str(caught.value)
    assert "fxbio.revert(model)" in str(caught.value)
    assert fxbio.verify(model).ok


def test_without_a_source_the_model_is_asked_for(saved: Path) -> None:
    with pytest.raises(RecordError, match="does not say how to build Layers") as caught:
        fxbio.load(saved)
    assert "fxbio.load(folder, model)" in str(caught.value)


@pytest.fixture
def own_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_registry, "_RULES", dict(rules_registry._RULES))
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.usefixtures("own_rules")
def test_a_folder_with_a_rule_from_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fxbio.models import load_reference
    from fxbio.plugins import load_plugin

    plugin = EXAMPLES / "rules" / "ternary.py"
    load_plugin(plugin)
    loaded = load_reference(str(EXAMPLES / "models" / "model.py"), {"width": 4})
    model = fxbio.transform(loaded.model, policy("ternary"), loaded.default_inputs)
    source = ModelSource(loaded.reference, {"width": 4}, (), (str(plugin),))
    fxbio.save(model, tmp_path / "out", source=source)
    x = torch.randn(3, 1, 8, 8)

    unloaded = {k: v for k, v in rules_registry._RULES.items() if k != "ternary"}
    monkeypatch.setattr(rules_registry, "_RULES", unloaded)
    with pytest.raises(RecordError, match="does not fit") as caught:
        fxbio.load(tmp_path / "out", load_reference(loaded.reference, {"width": 4}).model, x)
    assert "unknown rule 'ternary'" in str(caught.value)
    assert_same(fxbio.load(tmp_path / "out"), model, x)


# The record of a living model


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_keep_the_record(tmp_path: Path, kind: str, how: str) -> None:
    model, x = made("brsf", kind), build(kind)[1]
    train(model, x, 2)
    twin = copy.deepcopy(model) if how == "deepcopy" else pickle.loads(pickle.dumps(model))
    assert vars(twin)[RECORD].plan == vars(model)[RECORD].plan
    assert_same(twin, model, x)
    assert_continues(twin, model, x)
    fxbio.save(twin, tmp_path / "out")
    assert_same(fxbio.load(tmp_path / "out", stock(kind), x), model, x)


def state(model: nn.Module) -> dict[str, Any]:
    """What a transformation could leave behind."""
    found = {name: p.requires_grad for name, p in model.named_parameters()}
    for path, module in model.named_modules():
        found[path] = (type(module), list(vars(module)), list(module._buffers))
        assert not module._non_persistent_buffers_set
        assert STATE not in vars(module)
    return found


@pytest.mark.parametrize("persist", ["true", "false"])
@pytest.mark.parametrize(
    ("kind", "rule"),
    [*(("layers", rule) for rule in RULES), *((kind, "brsf") for kind in list(BUILDERS)[1:])],
)
def test_revert_removes_every_trace(kind: str, rule: str, persist: str) -> None:
    model, x = build(kind)
    before = state(model)
    fxbio.transform(model, policy(RULES[rule], persist_feedback=persist), x, inplace=True)
    assert bound_modules(model)
    assert fxbio.revert(model) is model
    assert state(model) == before
    train(model, x, 1)  # nothing follows its optimizer any more
    fxbio.transform(model, policy("usf"), x, inplace=True)
    assert fxbio.verify(model).ok


def test_revert_keeps_what_was_learned_after_load(saved: Path) -> None:
    loaded = fxbio.load(saved, stock(), build()[1])
    learned = {k: v.clone() for k, v in loaded.state_dict().items()}
    fxbio.revert(loaded)
    assert all(torch.equal(v, learned[k]) for k, v in loaded.state_dict().items())
    with pytest.raises(ModelError, match="nothing to revert"):
        fxbio.revert(loaded)


FIRST_PIPELINE = (
    "assign-rules,check-support,make-feedback,lower-sites,bind-modules,route-errors,place-targets,"
    "check-witness"
)
"""That of the folders which were written before the way back was lowered into the graph."""


@pytest.mark.parametrize("rule", ["usf", "dfa", "dtp"])
def test_folders_of_the_first_pipeline_load(tmp_path: Path, rule: str) -> None:
    model, x = routes.Perceptron(), routes.rows()
    transformed = fxbio.transform(model, routes.policy("bp", {"where": "first", "rule": rule}), x)
    fxbio.save(transformed, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    (tmp_path / "out" / "record.json").write_text(json.dumps(record | {"pipeline": FIRST_PIPELINE}))
    loaded = fxbio.load(tmp_path / "out", routes.Perceptron(), x)
    assert_same(loaded, transformed, x)
