"""Evaluation: every sample of the validation set once, whatever the number of processes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from fxbio.train.engine.session import Session
from fxbio.train.output.view import View
from fxbio.train.parallel.signals import StopFlag
from fxbio.train.tasks import Evaluator

__all__ = ["Evaluation", "Interrupted", "evaluate"]

CHECK_EVERY = 10
"""Batches between two looks at the stop flag."""


class Interrupted(Exception):
    """Some process was asked to stop."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found, the same on every process but for the predictions."""

    metrics: dict[str, float]
    notes: tuple[str, ...]
    predictions: list[dict[str, Any]]
    """On the first process, where the task gives any."""


def evaluate(session: Session, view: View, stop: StopFlag, limit: int | None = None) -> Evaluation:
    """Predict the validation set and merge what all processes found. Collective.

    Training is not touched by it: no random number is drawn, and the model is in training mode
    again afterwards.

    Args:
        session: whose model; its average if it has one.
        view: where to show how far it is.
        stop: looked at now and then.
        limit: batches per process; by default all there are.

    Raises:
        Interrupted: when some process was asked to stop.
    """
    session.world.share_buffers(session.model)  # the other ranks have statistics of their own
    average = session.average.applied() if session.average else nullcontext()
    session.model.eval()
    try:
        with torch.random.fork_rng(_cuda_devices(session)), average, torch.no_grad():
            evaluator = _predict_all(session, view, stop, limit)
    finally:
        session.model.train()
    metrics = evaluator.merge(session.world.control)
    return Evaluation(metrics, tuple(evaluator.notes()), evaluator.predictions())


def _predict_all(session: Session, view: View, stop: StopFlag, limit: int | None) -> Evaluator:
    world, task = session.world, session.task
    total = _most_batches(session)
    steps = total if limit is None else min(limit, total)
    evaluator = task.new_evaluator(session.source, partial=steps < total)
    batches = iter(session.eval_loader)
    for number in range(steps):
        if number % CHECK_EVERY == 0 and world.agree(bool(stop))[0]:
            raise Interrupted
        batch = next(batches, None)  # the last rank may have one batch less
        if batch is None:
            continue
        moved = session.moved(batch)
        with session.precision.autocast():
            output = task.predict(session.model, moved)
        evaluator.update(output, moved)
        view.evaluating(number + 1, steps)
    if world.agree(bool(stop))[0]:
        raise Interrupted
    return evaluator


def _cuda_devices(session: Session) -> list[torch.device]:
    device = session.world.device
    return [device] if device.type == "cuda" else []


def _most_batches(session: Session) -> int:
    """Batches of the process that has the most of them."""
    samples = -(-len(session.source.val) // session.world.size)  # type: ignore[arg-type]
    batch_size = session.eval_loader.batch_size
    assert batch_size is not None
    return -(-samples // batch_size)
