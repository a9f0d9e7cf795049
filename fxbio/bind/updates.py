"""Feedback that changes with the updates of the weights.

A global hook runs after every ``Optimizer.step`` and finds the rewritten modules whose weights or
feedback that optimizer holds. They count the update; what is due is drawn, copied or rescaled.
Forward calls never do any of this, so gradient accumulation, recomputed activations and
evaluation leave the feedback alone. What is drawn is a function of ``(seed, weight, count)``, so
every rank and every resumed run agree.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from fxbio.bind.binding import UPDATES, BoundWeight, binding_of, resolve_attribute
from fxbio.bind.local_losses import attach_losses, begin_update, detach_losses
from fxbio.bind.optimizers import check_optimizer, forget_optimizers
from fxbio.ops.transport import parse_rule
from fxbio.rules.draw import feedback_generator

__all__ = [
    "advance_feedback",
    "forget_updates",
    "redraw_counts",
    "renew",
    "set_redraw_counts",
    "track_updates",
]

_tracked: weakref.WeakSet[nn.Module] = weakref.WeakSet()
_hooks: list[Any] = []


def track_updates(module: nn.Module) -> None:
    """Have a rewritten module follow optimizer steps, if its feedback learns or is redrawn."""
    weights = binding_of(module).weights
    if not any(_follows(weight) for weight in weights):
        return
    if not hasattr(module, UPDATES):
        object.__setattr__(module, UPDATES, 0)
    attach_losses(module, weights)
    _tracked.add(module)
    if not _hooks:
        _hooks.append(register_optimizer_step_post_hook(_after_step))


def forget_updates(module: nn.Module) -> None:
    """Have a module follow no optimizer steps any more, when its rules are taken away."""
    if module not in _tracked:
        return
    _tracked.remove(module)
    detach_losses(module, binding_of(module).weights)
    forget_optimizers(module)
    delattr(module, UPDATES)


def advance_feedback(module: nn.Module) -> None:
    """Count one weight update of a rewritten module and renew the feedback that is due."""
    count: int = getattr(module, UPDATES) + 1
    object.__setattr__(module, UPDATES, count)
    begin_update(module)
    for weight, period in _renewed(module):
        if count % period == 0:
            renew(module, weight, count // period)


def redraw_counts(model: nn.Module) -> dict[str, int]:
    """Updates counted so far by the path of each rewritten module that counts; for checkpoints."""
    return {path: getattr(m, UPDATES) for path, m in model.named_modules() if m in _tracked}


def set_redraw_counts(model: nn.Module, counts: dict[str, int]) -> None:
    """Bring the feedback to the state that ``redraw_counts`` described.

    What has a history, such as learned feedback and copies of weights, is in the ``state_dict``.

    Raises:
        KeyError: if a path is not a module that counts.
    """
    modules = {path: m for path, m in model.named_modules() if m in _tracked}
    for path, count in counts.items():
        module = modules[path]
        before: int = getattr(module, UPDATES)
        object.__setattr__(module, UPDATES, count)
        for weight, period in _renewed(module):
            if not weight.has_history and count // period != before // period:
                renew(module, weight, count // period)


@torch.no_grad()
def renew(module: nn.Module, weight: BoundWeight, turn: int) -> None:
    """Redraw, copy or rescale one feedback weight as its rule says.

    Args:
        module: that the weight is bound in.
        weight: whose feedback it is.
        turn: number of the draw.
    """
    name = weight.learned or weight.feedback
    assert name is not None
    feedback: Tensor = getattr(module, name)
    rule = parse_rule(weight.rule)
    like = weight.weight_of(module) if rule.reads_weight() else torch.empty(weight.shape)
    generator = feedback_generator(weight.seed, weight.weight, turn)
    feedback.copy_(rule.redraw(like, feedback, weight.info, generator))


def _after_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    if not _tracked:
        return
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    updated = [m for m in tuple(_tracked) if any(id(p) in held for p in _trained(m))]
    check_optimizer(optimizer, held, updated)
    for module in updated:
        advance_feedback(module)


def _trained(module: nn.Module) -> Iterator[Tensor]:
    """The parameters that rewritten weights are made of, and learned feedback."""
    for weight in binding_of(module).weights:
        names = [*weight.sources, *([weight.learned] if weight.learned else [])]
        yield from (resolve_attribute(module, name) for name in names)


def _follows(weight: BoundWeight) -> bool:
    return weight.learned is not None or parse_rule(weight.rule).redraw_period() > 0


def _renewed(module: nn.Module) -> list[tuple[BoundWeight, int]]:
    """The weights whose feedback is renewed, with the number of updates between two times."""
    binding = binding_of(module)
    periods = [(weight, parse_rule(weight.rule).redraw_period()) for weight in binding.weights]
    return [(weight, period) for weight, period in periods if period]
