"""A small detector through the whole trainer, on generated images."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import Dataset

from fxbio.errors import ConfigError
from fxbio.train.config import Recipe, load_recipe
from fxbio.train.data import open_data
from fxbio.train.data.make_shapes_coco import make_shapes_coco
from fxbio.train.engine.evaluate_run import evaluate_run
from fxbio.train.engine.run import train
from fxbio.train.state.checkpoint_files import read_checkpoint
from tests.train.test_resume import Trap, assert_same
from tests.train.tiny import recipe, source

RECIPE = Path(__file__).parent.parent.parent / "examples" / "recipes" / "shapes-coco.yaml"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes_coco(folder, images=12, size=64)
    changes = ["train.epochs=2", "train.batch_size=4", "train.device=cpu", "model.args.size=64"]
    changes += [f"data.path={folder}", "data.workers=0", "data.aspect_groups=3"]
    return load_recipe(RECIPE, changes)


def test_a_stopped_detector_goes_on_bit_for_bit(settings: Recipe, tmp_path: Path) -> None:
    data = open_data(settings.data)
    straight = train(settings, tmp_path / "straight")
    assert straight.metrics["samples"] == len(data.val)  # type: ignore[arg-type]
    trap = Trap(data.train, 9, lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopped = train(settings, tmp_path / "stopped", data=replace(data, train=trap))
    assert stopped.state == "preempted"
    assert train(settings, tmp_path / "stopped", resume="auto").state == "done"
    one, other = (
        read_checkpoint(tmp_path / name / "checkpoints" / "last.pt")
        for name in ("straight", "stopped")
    )
    assert_same(one, other)


class Watched(Dataset[Any]):
    """Notes which of its samples are asked for."""

    def __init__(self, inner: Dataset[Any]) -> None:
        self.inner, self.asked = inner, list[int]()

    def __len__(self) -> int:
        return len(self.inner)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return self.inner[index]


def test_steps_have_images_of_one_group(settings: Recipe, tmp_path: Path) -> None:
    data = open_data(settings.data)
    watched = Watched(data.train)
    groups = np.array([0, 1] * 5)
    train(settings, tmp_path, data=replace(data, train=watched, groups=groups))
    steps = groups[watched.asked[-16:]].reshape(4, 4)  # two epochs of two steps
    assert (steps == steps[:, :1]).all(), steps


def test_the_losses_of_the_model_are_logged(settings: Recipe, tmp_path: Path) -> None:
    train(replace(settings, train=replace(settings.train, epochs=1)), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["kind"] == "train")
    assert {"loss", "classification", "bbox_regression", "grad_norm"} <= first.keys()
    assert first["loss"] == pytest.approx(first["classification"] + first["bbox_regression"], 1e-5)


def test_notes_are_said_once_and_the_best_checkpoint_has_predictions_too(
    settings: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(settings, tmp_path / "run")
    assert capsys.readouterr().err.count("note: no objects for AP_large") == 1
    checkpoint, file = tmp_path / "run/checkpoints/last.pt", tmp_path / "boxes.json"
    evaluate_run(tmp_path / "run", checkpoint, predictions=file)
    after_training = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert len(after_training) > 0
    assert json.loads(file.read_text()) == after_training
    with pytest.raises(ConfigError, match="a file in a folder that is there"):
        evaluate_run(tmp_path / "run", checkpoint, predictions=tmp_path / "nowhere" / "boxes.json")


def test_a_classifier_has_no_predictions_to_write(tmp_path: Path) -> None:
    train(recipe("train.epochs=1"), tmp_path / "run", data=source())
    with pytest.raises(ConfigError, match="of detection, and this is classification"):
        evaluate_run(
            tmp_path / "run",
            tmp_path / "run/checkpoints/last.pt",
            data=source(),
            predictions=tmp_path / "boxes.json",
        )
