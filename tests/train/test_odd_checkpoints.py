"""Checkpoints that fxbio train never wrote: one message about what is odd, on every road."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fxbio.errors import TrainError
from fxbio.train.engine.evaluate_run import evaluate_run
from fxbio.train.engine.run import train
from fxbio.train.state.checkpoint_files import read_checkpoint, write_checkpoint
from fxbio.train.state.store import CheckpointStore
from tests.train.tiny import recipe, source

SETTINGS = ("train.epochs=2", "train.ema=0.9")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(recipe("train.epochs=1", *SETTINGS[1:]), folder, data=source())
    return folder


ROADS: dict[str, Callable[[Path, Path, Path], Any]] = {
    "resume": lambda run, path, new: train(recipe(*SETTINGS), new, data=source(), resume=str(path)),
    "eval": lambda run, path, new: evaluate_run(run, path, data=source()),
}

PARTS = {
    "progress": "progress",
    "progress.step": "progress.step",
    "progress.metrics": "progress.metrics",
    "sampler": "sampler",
    "sampler.epoch": "sampler.epoch",
    "model": "model",
    "model.redraws": "model.redraws",
    "model.scales": "model.scales",
    "average.weights": "average.weights",
    "ranks": "ranks",
    "optimizer.state": "no run has saved",
    "optimizer.param_groups": "no run has saved",
}


def changed(state: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The state with another value at a path; without it where that is ``...``."""
    name, _, rest = path.partition(".")
    if rest:
        return {**state, name: changed(state[name], rest, value)}
    others = {key: item for key, item in state.items() if key != name}
    return others if value is ... else {**others, name: value}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("value", [7, "x", [None], ...], ids=str)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_another_type_is_named(
    run: Path, tmp_path: Path, part: str, value: Any, road: str
) -> None:
    if (part, value) in (("progress.step", 7), ("sampler.epoch", 7)):
        value = -1
    if value is ... and part.startswith("progress."):
        value = None  # these may be missing
    state = read_checkpoint(run / "checkpoints" / "last.pt")
    write_checkpoint(changed(state, part, value), tmp_path / "odd.pt")
    with pytest.raises(TrainError, match="no run has saved") as caught:
        ROADS[road](run, tmp_path / "odd.pt", tmp_path / "new")
    assert PARTS[part] in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("road", ROADS)
def test_tensors_of_other_shapes_are_refused(run: Path, tmp_path: Path, road: str) -> None:
    state = read_checkpoint(run / "checkpoints" / "last.pt")
    ranks = [{**state["ranks"][0], "generators": {**state["ranks"][0]["generators"]}}]
    ranks[0]["generators"]["torch"] = torch.zeros(3)
    write_checkpoint({**state, "ranks": ranks}, tmp_path / "odd.pt")
    with pytest.raises(TrainError, match="no run has saved"):
        ROADS[road](run, tmp_path / "odd.pt", tmp_path / "new")


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("format_", [2, None, "x" * 5000])
def test_another_format_is_told_in_one_line(
    run: Path, tmp_path: Path, format_: object, road: str
) -> None:
    write_checkpoint({"format": format_}, tmp_path / "odd.pt")
    with pytest.raises(TrainError, match="this fxbio reads 1") as caught:
        ROADS[road](run, tmp_path / "odd.pt", tmp_path / "new")
    assert len(str(caught.value)) < 500


def test_files_of_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=9)
    for step in (99_999_999, 100_000_000):
        store.save({"format": 1}, step, best=False)
    store.finish()
    for name in ("step-abc.pt", "step-.pt", "step-00000001-copy.pt", "step--0000001.pt"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in store.all()] == ["step-100000000.pt", "step-99999999.pt"]
    assert [path.name for path in store.after(99_999_999)] == ["step-100000000.pt"]
