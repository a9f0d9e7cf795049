"""Feedback that is drawn afresh after weight updates.

The draw follows the optimizer: a global hook runs after every ``Optimizer.step``, finds the
rewritten modules whose weights that optimizer holds, and advances them. Forward calls never
draw, so gradient accumulation, recomputed activations and evaluation leave the feedback alone.
The draw is a function of ``(seed, weight, count)``, so every rank and every resumed run agree.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from fxbio.bind.binding import BINDING, BoundWeight, ModuleBinding, resolve_attribute
from fxbio.ops.transport import parse_rule
from fxbio.rules.draw import draw_feedback

__all__ = [
    "advance_feedback",
    "forget_redraws",
    "redraw_counts",
    "set_redraw_counts",
    "track_redraws",
]

_COUNT = "_fxbio_updates"
_tracked: weakref.WeakSet[nn.Module] = weakref.WeakSet()
_hooks: list[Any] = []


def track_redraws(module: nn.Module) -> None:
    """Have a rewritten module follow optimizer steps, if one of its rules redraws."""
    if not any(_periods(module)):
        return
    if not hasattr(module, _COUNT):
        object.__setattr__(module, _COUNT, 0)
    _tracked.add(module)
    if not _hooks:
        _hooks.append(register_optimizer_step_post_hook(_after_step))


def forget_redraws(module: nn.Module) -> None:
    """Have a module follow no optimizer steps any more, when its rules are taken away."""
    if module in _tracked:
        _tracked.remove(module)
        delattr(module, _COUNT)


def advance_feedback(module: nn.Module) -> None:
    """Count one weight update of a rewritten module and redraw what is due."""
    _set_count(module, getattr(module, _COUNT) + 1)


def redraw_counts(model: nn.Module) -> dict[str, int]:
    """Updates counted so far by the path of each rewritten module that redraws; for checkpoints."""
    return {path: getattr(m, _COUNT) for path, m in model.named_modules() if m in _tracked}


def set_redraw_counts(model: nn.Module, counts: dict[str, int]) -> None:
    """Bring the feedback to the state that ``redraw_counts`` described.

    Raises:
        KeyError: if a path is not a module that redraws.
    """
    modules = {path: m for path, m in model.named_modules() if m in _tracked}
    for path, count in counts.items():
        _set_count(modules[path], count)


def _after_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    if not _tracked:
        return
    updated = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for module in tuple(_tracked):
        if any(id(p) in updated for p in _parameters(module)):
            advance_feedback(module)


def _parameters(module: nn.Module) -> Iterator[Tensor]:
    binding: ModuleBinding = getattr(module, BINDING)
    for weight in binding.weights:
        for name in weight.sources:
            yield resolve_attribute(module, name)


def _periods(module: nn.Module) -> Iterator[int]:
    binding: ModuleBinding = getattr(module, BINDING)
    for weight in binding.weights:
        yield parse_rule(weight.rule).redraw_period()


def _set_count(module: nn.Module, count: int) -> None:
    before: int = getattr(module, _COUNT)
    object.__setattr__(module, _COUNT, count)
    binding: ModuleBinding = getattr(module, BINDING)
    for weight, period in zip(binding.weights, _periods(module), strict=True):
        if period and count // period != before // period:
            _redraw(module, weight, count // period)


@torch.no_grad()
def _redraw(module: nn.Module, weight: BoundWeight, turn: int) -> None:
    assert weight.feedback is not None
    buffer: Tensor = getattr(module, weight.feedback)
    rule = parse_rule(weight.rule)
    like = torch.empty(weight.shape)
    if rule.reads_weight():
        like = resolve_attribute(module, weight.attribute).detach().cpu()
    buffer.copy_(draw_feedback(rule, like, weight.info, weight.seed, turn))
