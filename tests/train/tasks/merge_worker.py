"""What one of two processes does for ``test_merge``."""

from __future__ import annotations

import datetime
import os
import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fxbio.errors import DataError
from fxbio.train.data import DataConfig, DataSource, EvalSampler, make_loader, open_data
from fxbio.train.tasks import TaskConfig, make_task

__all__ = ["CLASSES", "RANKS", "classification", "detection", "run"]

RANKS = 2
CLASSES = 7


def run(rank: int, folder: str) -> None:
    """Evaluate both tasks on half of the data, and leave the results in ``folder``."""
    torch.set_num_threads(1)
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    timeout = datetime.timedelta(seconds=120)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=RANKS,
        timeout=timeout,
    )
    results = {
        "classification": classification(rank, RANKS),
        "detection": detection(folder, rank, RANKS),
        "refused": _missing_images(folder, rank),
    }
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def classification(rank: int, world: int) -> dict[str, float]:
    """The metrics of 13 random outputs, of which a rank has every second."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(13, CLASSES, generator=generator)
    targets = torch.arange(13) % CLASSES
    source = DataSource(_Length(13), _Length(13), ("",) * CLASSES, "classification")  # type: ignore[arg-type]
    evaluator = make_task(TaskConfig(), source).new_evaluator(source)
    for pick in EvalSampler(13, rank=rank, world=world):
        one = slice(pick.sample, pick.sample + 1)
        evaluator.update(logits[one], (logits[one], targets[one]))
    return evaluator.merge()


def detection(folder: str, rank: int, world: int) -> dict[str, float]:
    """The metrics of shaken boxes."""
    source = open_data(DataConfig(name="coco", path=Path(folder, "data")))
    task = make_task(TaskConfig(), source)
    evaluator = task.new_evaluator(source)
    size: int = len(source.val)  # type: ignore[arg-type]
    loader = make_loader(
        source.val,
        batch_size=2,
        sampler=EvalSampler(size, rank=rank, world=world),
        workers=0,
        collate=task.collate_eval,
        seed=0,
    )
    for batch in loader:
        evaluator.update([_shaken(target) for target in batch[1]], batch)
    return evaluator.merge()


def _shaken(target: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(int(target["image"]))
    boxes = target["boxes"]
    return {
        "boxes": boxes + torch.randn(boxes.shape, generator=generator) * 3,
        "labels": target["labels"],
        "scores": torch.rand(len(boxes), generator=generator),
    }


def _missing_images(folder: str, rank: int) -> str:
    source = open_data(DataConfig(name="coco", path=Path(folder, "data")))
    task = make_task(TaskConfig(), source)
    evaluator: Any = task.new_evaluator(source)
    if rank == 1:
        batch = task.collate_eval([source.val[0]])
        evaluator.update([_shaken(batch[1][0])], batch)
    try:
        evaluator.merge()
    except DataError as error:
        return str(error)
    return ""


class _Length:
    """All that an evaluator asks of a data set."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length
