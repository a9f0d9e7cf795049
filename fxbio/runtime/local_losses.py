"""Feedback that learns by a loss of its own: what its parameter gets besides the op's gradient.

A hook on the parameter sees the gradient of a whole backward pass, however often the weight was
applied and whatever was recomputed. It adds the gradient of the loss on weights, and keeps a
running mean over the backward passes since the last update: several micro-batches count as one
batch, and a loss that does not depend on the batch counts once.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from fxbio.errors import ModelError
from fxbio.ops.feedback_weight import parse_rule
from fxbio.rules.base import Rule
from fxbio.rules.seeding import feedback_generator

if TYPE_CHECKING:
    from fxbio.runtime.binding import BoundWeight

__all__ = [
    "attach_losses",
    "averages_itself",
    "begin_update",
    "check_can_learn",
    "detach_losses",
    "local_gradient",
]

_PASSES = "_fxbio_passes"
"""Attribute of a module: backward passes since the last update, by the name of the parameter."""

_hooked: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""The handle of the hook of each parameter that has one; modules may share a parameter."""


def attach_losses(module: nn.Module, weights: tuple[BoundWeight, ...]) -> None:
    """Have the learned feedback of a module learn by its own loss, where it has one."""
    for bound, parameter in _self_taught(module, weights):
        if parameter not in _hooked and parameter.requires_grad:
            hook = partial(_taught_gradient, weakref.ref(module), bound)
            _hooked[parameter] = parameter.register_hook(hook)
            begin_update(module)


def detach_losses(module: nn.Module, weights: tuple[BoundWeight, ...]) -> None:
    """Undo ``attach_losses``."""
    for _, parameter in _self_taught(module, weights):
        handle: RemovableHandle | None = _hooked.pop(parameter, None)
        if handle is not None:
            handle.remove()
    vars(module).pop(_PASSES, None)


def averages_itself(parameter: Tensor) -> bool:
    """Whether a gradient is a mean over the backward passes of an update, and not their sum."""
    return parameter in _hooked


def begin_update(module: nn.Module) -> None:
    """Take the next backward pass for the first since an update of the weights."""
    vars(module)[_PASSES] = {}


@torch.no_grad()
def local_gradient(module: nn.Module, bound: BoundWeight, purpose: str, turn: int) -> Tensor | None:
    """The gradient of the loss on weights of one learned feedback, or ``None`` without one.

    Args:
        module: that the weight is bound in.
        bound: with a learned feedback.
        purpose: keeps draws for one purpose apart from those for another.
        turn: number of the draw.
    """
    assert bound.learned is not None
    rule, learned = parse_rule(bound.rule), getattr(module, bound.learned)
    if type(rule).local_gradient is Rule.local_gradient:
        return None
    generator = feedback_generator(bound.seed, f"{bound.weight}:{purpose}", turn)
    return rule.local_gradient(bound.weight_of(module), learned, bound.info, generator)


def check_can_learn(parameter: Tensor, spec: str, weight: str) -> None:
    """Refuse a forward pass whose backward pass would get a local loss wrong.

    Args:
        parameter: the learned feedback.
        spec: of the rule.
        weight: that it is the feedback of.

    Raises:
        ModelError: under float16 autocast, and for parameters from elsewhere.
    """
    if not parameter.requires_grad:
        return
    _check_precision(parameter.device.type, spec, weight)
    if not torch.compiler.is_compiling():  # a compiler has stand-ins for parameters
        _check_own(parameter, spec, weight)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # compiled code is made anew for another precision
def _check_precision(device: str, spec: str, weight: str) -> None:
    if parse_rule(spec).tied or not torch.is_autocast_enabled(device):
        return
    if torch.get_autocast_dtype(device) == torch.float16:
        raise ModelError(
            f"the feedback of '{weight}' cannot learn under float16 autocast",
            notes=[
                f"rule {spec.partition('{')[0]} has a loss of its own, which a gradient scaler "
                "does not scale but would scale back"
            ],
            help="use bfloat16: torch.autocast(device, torch.bfloat16), without a scaler",
        )


def _check_own(parameter: Tensor, spec: str, weight: str) -> None:
    if not parse_rule(spec).tied and parameter.is_leaf and parameter not in _hooked:
        raise ModelError(
            f"the feedback of '{weight}' is not the module's own parameter",
            notes=["its own carries the local loss by which it learns; another gets no gradient"],
            help="call the model itself; functional_call works without '*fxbio_feedback*'",
        )


def _self_taught(
    module: nn.Module, weights: tuple[BoundWeight, ...]
) -> Iterator[tuple[BoundWeight, Tensor]]:
    for bound in weights:
        if bound.learned is not None and not parse_rule(bound.rule).tied:
            yield bound, getattr(module, bound.learned)


@torch.no_grad()
def _taught_gradient(
    home: weakref.ref[nn.Module], bound: BoundWeight, gradient: Tensor
) -> Tensor | None:
    """The gradient of a feedback parameter, from what the ops gave."""
    module = home()
    if module is None or bound.learned is None:
        return None
    before: Tensor | None = getattr(module, bound.learned).grad
    passes: dict[str, int] = vars(module)[_PASSES]
    done = 0 if before is None else passes.get(bound.learned, 0)
    if before is not None and done and not before.any():
        done = 0  # gradients that were set to zero are those of no earlier pass
    passes[bound.learned] = done + 1
    local = local_gradient(module, bound, "noise", bound.updates(module))
    total = gradient if local is None else gradient + local
    return total if before is None or not done else (total - before) / (done + 1)
