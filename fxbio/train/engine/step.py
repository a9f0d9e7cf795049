"""One optimizer step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from fxbio.bind.local_losses import averages_itself
from fxbio.train.engine.session import Session

__all__ = ["backward", "update"]


def backward(session: Session, batches: Sequence[Any]) -> tuple[dict[str, float], bool]:
    """Loss and gradients of the parts of a batch.

    The gradients of all parts are summed on each process before they are sent, once; what the
    optimizer gets is their mean, for every rule that of the gradients of each part taken alone.

    Returns:
        The losses with the norm of the gradient, and whether all of it is finite here.
    """
    totals: dict[str, Tensor] = {}
    for number, batch in enumerate(batches):
        with _gradients_stay(session.parallel, number < len(batches) - 1):
            losses = _one_part(session, session.moved(batch))
        for name, value in losses.items():
            totals[name] = totals.get(name, 0.0) + value / len(batches)
    session.scaler.unscale_(session.optimizer)
    _divide_gradients(session, len(batches))
    norm = _norm_of_gradients(session)
    values = torch.stack([*totals.values(), norm.to(session.world.device)]).tolist()
    named = dict(zip([*totals, "grad_norm"], values, strict=True))
    # fp16 overflows now and then: the scaler skips the step and scales less, as long as it can.
    overflows = session.scaler.is_enabled() and session.scaler.get_scale() > 1.0
    judged = values[:-1] if overflows else values
    return named, all(math.isfinite(value) for value in judged)


def update(session: Session) -> None:
    """Change the weights."""
    session.scaler.step(session.optimizer)
    session.scaler.update()
    session.optimizer.zero_grad(set_to_none=True)
    if session.average is not None:
        session.average.update()
    session.progress.step += 1


def _one_part(session: Session, batch: Any) -> dict[str, Tensor]:
    with session.precision.autocast():
        losses = session.task.loss(session.parallel, batch)
    scaled: Tensor = session.scaler.scale(losses["loss"])
    scaled.backward()
    return {name: value.detach().float() for name, value in losses.items()}


def _gradients_stay(model: nn.Module, stay: bool) -> AbstractContextManager[None]:
    no_sync = getattr(model, "no_sync", None)
    return no_sync() if stay and no_sync is not None else nullcontext()


def _divide_gradients(session: Session, parts: int) -> None:
    """From sums over parts to means.

    Not the losses are divided: targets and labels are made from the error of a part as it is, and
    the losses of inverses join in with a factor of their own.
    """
    if parts == 1:
        return
    for weight in _weights(session):
        if weight.grad is not None and not averages_itself(weight):
            weight.grad.div_(parts)


def _weights(session: Session) -> list[Tensor]:
    return [p for group in session.optimizer.param_groups for p in group["params"]]


def _norm_of_gradients(session: Session) -> Tensor:
    weights = _weights(session)
    norm = get_total_norm([p.grad for p in weights if p.grad is not None])
    limit = session.recipe.train.clip_norm
    if limit is not None:
        clip_grads_with_norm_(weights, limit, norm)
    return norm
