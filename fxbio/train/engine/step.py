"""One optimizer step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from fxbio.runtime.local_losses import averages_itself
from fxbio.train.engine.trainer_state import TrainerState

__all__ = ["backward", "update"]


def backward(trainer: TrainerState, batches: Sequence[Any]) -> tuple[dict[str, float], bool]:
    """Loss and gradients of the parts of a batch.

    The gradients of all parts are summed on each process before they are sent, once; what the
    optimizer gets is their mean, for every rule that of the gradients of each part taken alone.

    Returns:
        The losses with the norm of the gradient, and whether all of it is finite here.
    """
    totals: dict[str, Tensor] = {}
    for number, batch in enumerate(batches):
        with _gradients_stay(trainer.parallel, number < len(batches) - 1):
            losses = _one_part(trainer, trainer.moved(batch))
        for name, value in losses.items():
            totals[name] = totals.get(name, 0.0) + value / len(batches)
    trainer.scaler.unscale_(trainer.optimizer)
    _divide_gradients(trainer, len(batches))
    norm = _norm_of_gradients(trainer)
    values = torch.stack([*totals.values(), norm.to(trainer.world.device)]).tolist()
    named = dict(zip([*totals, "grad_norm"], values, strict=True))
    # fp16 overflows now and then: the scaler skips the step and scales less, as long as it can.
    overflows = trainer.scaler.is_enabled() and trainer.scaler.get_scale() > 1.0
    judged = values[:-1] if overflows else values
    return named, all(math.isfinite(value) for value in judged)


def update(trainer: TrainerState) -> None:
    """Change the weights."""
    trainer.scaler.step(trainer.optimizer)
    trainer.scaler.update()
    trainer.optimizer.zero_grad(set_to_none=True)
    if trainer.average is not None:
        trainer.average.update()
    trainer.progress.step += 1


def _one_part(trainer: TrainerState, batch: Any) -> dict[str, Tensor]:
    with trainer.precision.autocast():
        losses = trainer.task.loss(trainer.parallel, batch)
    scaled: Tensor = trainer.scaler.scale(losses["loss"])
    scaled.backward()
    return {name: value.detach().float() for name, value in losses.items()}


def _gradients_stay(model: nn.Module, stay: bool) -> AbstractContextManager[None]:
    no_sync = getattr(model, "no_sync", None)
    return no_sync() if stay and no_sync is not None else nullcontext()


def _divide_gradients(trainer: TrainerState, parts: int) -> None:
    """From sums over parts to means.

    Not the losses are divided: targets and labels are made from the error of a part as it is, and
    the losses of inverses join in with a factor of their own.
    """
    if parts == 1:
        return
    for weight in _weights(trainer):
        if weight.grad is not None and not averages_itself(weight):
            weight.grad.div_(parts)


def _weights(trainer: TrainerState) -> list[Tensor]:
    return [p for group in trainer.optimizer.param_groups for p in group["params"]]


def _norm_of_gradients(trainer: TrainerState) -> Tensor:
    weights = _weights(trainer)
    norm = get_total_norm([p.grad for p in weights if p.grad is not None])
    limit = trainer.recipe.train.clip_norm
    if limit is not None:
        clip_grads_with_norm_(weights, limit, norm)
    return norm
