"""A user's own pass, and the pipeline as a whole."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import fxbio
from fxbio.cli.main import cli
from fxbio.errors import PassError
from fxbio.passes import DEFAULT_PIPELINE, Pipeline, make_pass
from fxbio.passes.pipeline import PassRun
from fxbio.plugins import load_plugin
from fxbio.runtime.install import bound_modules
from tests.small import BUILDERS, build, policy, snapshot, step

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "passes" / "count_sites.py"
WITH_COUNT = DEFAULT_PIPELINE.replace("assign-rules,", "assign-rules,count-sites{minimum=%d},")


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # a plug-in's folder is put in front of it


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 30


def test_a_pass_is_inserted() -> None:
    load_plugin(EXAMPLE)
    model, x = build()
    pipeline = Pipeline.parse(DEFAULT_PIPELINE).insert_after(
        "assign-rules", make_pass("count-sites")
    )
    summaries: dict[str, str] = {}

    def observe(run: PassRun, _: object) -> None:
        summaries[run.step.name] = run.result.summary

    rules = policy("bp", rules="[{where: {first: true}, rule: fa}]")
    fxbio.transform(model, rules, x, pipeline=pipeline, observers=[observe])
    assert summaries["count-sites"] == "1 fa, 2 bp"
    assert list(summaries) == [step.name for step in pipeline.passes]


def test_a_pass_that_refuses_stops_everything() -> None:
    load_plugin(EXAMPLE)
    model, x = build()
    before = snapshot(model)
    with pytest.raises(PassError, match="fewer than 4 sites get a rule"):
        fxbio.transform(model, policy(), x, inplace=True, pipeline=WITH_COUNT % 4)
    assert snapshot(model) == before


@pytest.fixture
def transform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``fxbio transform`` of the example model, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Result:
        model = EXAMPLES / "models" / "model.py"
        options = ["--policy", EXAMPLES / "policies" / "xiao-digits.yaml", "-o", "out"]
        return CliRunner().invoke(cli, list(map(str, ["transform", model, *options, *args])))

    return run


def test_a_pass_from_the_command_line(transform: Callable[..., Result]) -> None:
    options = ("--plugin", EXAMPLE, "--pipeline", WITH_COUNT % 7, "--time-passes")
    result = transform(*options)
    assert result.exit_code == 0, result.stderr
    assert "count-sites{minimum=7}: 7 usf, 6 bp" in result.stderr
    assert "count-sites{minimum=7}" in fxbio.load("out")._fxbio_record.pipeline


def test_a_refusal_on_the_command_line(transform: Callable[..., Result], tmp_path: Path) -> None:
    result = transform("--plugin", EXAMPLE, "--pipeline", WITH_COUNT % 8)
    assert result.exit_code == 2
    assert result.stderr == (
        "error: fewer than 8 sites get a rule\n  = note: pass 2 of 11: count-sites{minimum=8}\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_without_the_plugin_the_pass_is_unknown(transform: Callable[..., Result]) -> None:
    result = transform("--pipeline", WITH_COUNT % 1)
    assert result.exit_code == 2
    assert "unknown pass 'count-sites'" in result.stderr


@pytest.mark.parametrize("kind", BUILDERS)
def test_all_backprop_is_no_change_at_all(kind: str) -> None:
    model, x = build(kind)
    expected = step(copy.deepcopy(model), x)
    before = snapshot(model)
    made = fxbio.transform(model, policy("bp"), x, inplace=True)
    assert made is model
    assert bound_modules(model) == []
    record = vars(model).pop("_fxbio_record")
    assert record.code == {}
    assert record.plan.rewritten() == ()
    assert snapshot(model) == before
    for name, value in step(model, x).items():
        assert torch.equal(value, expected[name]), name


def test_a_pipeline_without_an_emitter_is_refused() -> None:
    model, x = build()
    before = snapshot(model)
    with pytest.raises(PassError, match="none of its rules would run"):
        fxbio.transform(model, policy(), x, inplace=True, pipeline="assign-rules,check-support")
    assert snapshot(model) == before
    fxbio.transform(model, policy("bp"), x, pipeline="assign-rules")  # nothing was to be done


def test_an_empty_pipeline_has_no_plan() -> None:
    model, x = build()
    with pytest.raises(PassError, match="there is no plan yet"):
        fxbio.transform(model, policy(), x, pipeline="")
