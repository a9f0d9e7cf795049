"""Two gloo processes with half of the validation set each, against one with all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing

from fxbio.train.data.make_shapes_coco import make_shapes_coco
from tests.train.tasks import merge_worker


def test_two_processes_say_what_one_says(tmp_path: Path) -> None:
    """One test, because starting two processes takes longer than all that they do."""
    make_shapes_coco(tmp_path / "data", images=68, size=96)
    torch.multiprocessing.spawn(merge_worker.run, args=(str(tmp_path),), nprocs=merge_worker.RANKS)
    first, second = (torch.load(tmp_path / f"{k}.pt") for k in range(merge_worker.RANKS))
    assert first == second
    assert first["detection"] == merge_worker.detection(str(tmp_path), 0, 1)
    assert first["detection"]["samples"] == 17
    assert first["classification"] == pytest.approx(merge_worker.classification(0, 1))
    assert first["classification"]["samples"] == 13
    assert "the evaluation saw 1 of 17 images" in first["refused"]
