"""Evaluation: every sample of the validation set once, whatever the number of processes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from fxbio.train.distributed.signals import StopFlag
from fxbio.train.engine.trainer_state import TrainerState
from fxbio.train.output.progress import View
from fxbio.train.tasks import Evaluator

__all__ = ["Evaluation", "Interrupted", "evaluate"]

CHECK_EVERY = 10
"""Batches between two looks at the stop flag."""


class Interrupted(Exception):
    """Some process was asked to stop."""


@dataclass(frozen=True)
class Evaluation:
    """Results of an evaluation, the same on every process but for the predictions."""

    metrics: dict[str, float]
    notes: tuple[str, ...]
    predictions: list[dict[str, Any]]
    """On the first process, where the task gives any."""


def evaluate(
    trainer: TrainerState, view: View, stop: StopFlag, limit: int | None = None
) -> Evaluation:
    """Predict the validation set and merge what all processes found. Collective.

    Training is not touched by it: no random number is drawn, and the model is in training mode
    again afterwards.

    Args:
        trainer: whose model; its average if it has one.
        view: where to show how far it is.
        stop: looked at now and then.
        limit: batches per process; by default all there are.

    Raises:
        Interrupted: when some process was asked to stop.
    """
    trainer.world.share_buffers(trainer.model)  # the other ranks have statistics of their own
    average = trainer.average.applied() if trainer.average else nullcontext()
    trainer.model.eval()
    try:
        with torch.random.fork_rng(_cuda_devices(trainer)), average, torch.no_grad():
            evaluator = _predict_all(trainer, view, stop, limit)
    finally:
        trainer.model.train()
    metrics = evaluator.merge(trainer.world.control)
    return Evaluation(metrics, tuple(evaluator.notes()), evaluator.predictions())


def _predict_all(trainer: TrainerState, view: View, stop: StopFlag, limit: int | None) -> Evaluator:
    world, task = trainer.world, trainer.task
    total = _most_batches(trainer)
    steps = total if limit is None else min(limit, total)
    evaluator = task.new_evaluator(trainer.source, partial=steps < total)
    batches = iter(trainer.eval_loader)
    for number in range(steps):
        if number % CHECK_EVERY == 0 and world.agree(bool(stop))[0]:
            raise Interrupted
        batch = next(batches, None)  # the last rank may have one batch less
        if batch is None:
            continue
        moved = trainer.moved(batch)
        with trainer.precision.autocast():
            output = task.predict(trainer.model, moved)
        evaluator.update(output, moved)
        view.evaluating(number + 1, steps)
    if world.agree(bool(stop))[0]:
        raise Interrupted
    return evaluator


def _cuda_devices(trainer: TrainerState) -> list[torch.device]:
    device = trainer.world.device
    return [device] if device.type == "cuda" else []


def _most_batches(trainer: TrainerState) -> int:
    """Batches of the process that has the most of them."""
    samples = -(-len(trainer.source.val) // trainer.world.size)  # type: ignore[arg-type]
    batch_size = trainer.eval_loader.batch_size
    assert batch_size is not None
    return -(-samples // batch_size)
