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

from fxbio.train.config import Recipe, load_recipe
from fxbio.train.data import open_data
from fxbio.train.data.make_shapes_coco import make_shapes_coco
from fxbio.train.engine.run import train
from fxbio.train.state.files import read_checkpoint
from tests.train.test_resume import Trap, assert_same

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
