"""Feedback that learns by a loss of its own: what its parameter gets besides the op's gradient.

Losses on activity are gradients of ops; losses on weights are added here, at the parameter itself.
A hook on it sees the gradient of a whole backward pass, however often the weight was applied and
whatever was recomputed, which no op sees. It adds the gradient of the loss on weights, and keeps a
running mean over the backward passes since the last update: several micro-batches count as one
batch, and a loss that does not depend on the batch counts once.

``fully_shard`` puts whole parameters in the place of the sharded ones while a forward or a backward
pass runs. These get their hooks when they are first met, and the mean goes on in the sharded ones.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from fxbio.errors import ModelError
from fxbio.rules.seeding import feedback_generator
from fxbio.runtime.binding import BoundWeight
from fxbio.runtime.module_state import state_of
from fxbio.runtime.sharding import gathered
from fxbio.runtime.stepping import after_backward

__all__ = [
    "attach_losses",
    "averages_itself",
    "begin_update",
    "check_can_learn",
    "detach_losses",
    "local_gradient",
]

_hooked: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""The handle of the hook of each parameter that has one; modules may share a parameter."""

_sharded: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""The sharded parameter of each whole one that ``fully_shard`` puts in its place."""


def attach_losses(module: nn.Module, weights: tuple[BoundWeight, ...]) -> None:
    """Have the learned feedback of a module learn by its own loss, where it has one."""
    for bound, parameter in _self_taught(module, weights):
        if parameter not in _hooked and parameter.requires_grad:
            _attach(module, bound, parameter)
            begin_update(module)


def detach_losses(module: nn.Module, weights: tuple[BoundWeight, ...]) -> None:
    """Undo ``attach_losses``."""
    for _, parameter in _self_taught(module, weights):
        handle: RemovableHandle | None = _hooked.pop(parameter, None)
        if handle is not None:
            handle.remove()


def averages_itself(parameter: Tensor) -> bool:
    """True if a gradient is a mean over the backward passes of an update, and not their sum."""
    return parameter in _hooked


def begin_update(module: nn.Module) -> None:
    """Take the next backward pass for the first since an update of the weights."""
    state_of(module).passes = {}


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
    rule, learned = bound.rule, gathered(getattr(module, bound.learned))
    if "local_gradient" not in rule.defines:
        return None
    generator = feedback_generator(bound.seed, f"{bound.weight}:{purpose}", turn)
    return rule.local_gradient(bound.weight_of(module), learned, bound.info, generator)


def check_can_learn(module: nn.Module, bound: BoundWeight) -> None:
    """Refuse a forward pass whose backward pass would get a local loss wrong.

    Args:
        module: that the weight is bound in.
        bound: with a learned feedback.

    Raises:
        ModelError: under float16 autocast, and for parameters from elsewhere.
    """
    assert bound.learned is not None
    parameter: Tensor = getattr(module, bound.learned)
    if bound.rule.tied or not parameter.requires_grad:
        return
    _check_precision(parameter.device.type, bound.rule.name, bound.weight)
    if not torch.compiler.is_compiling():  # a compiler has stand-ins for parameters
        _check_own(module, bound, parameter)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # compiled code is made anew for another precision
def _check_precision(device: str, rule: str, weight: str) -> None:
    if not torch.is_autocast_enabled(device):
        return
    if torch.get_autocast_dtype(device) == torch.float16:
        raise ModelError(
            f"the feedback of '{weight}' cannot learn under float16 autocast",
            notes=[
                f"rule {rule} has a loss of its own, which a gradient scaler does not scale but "
                "would scale back"
            ],
            help="use bfloat16: torch.autocast(device, torch.bfloat16), without a scaler",
        )


def _check_own(module: nn.Module, bound: BoundWeight, parameter: Tensor) -> None:
    if parameter in _hooked:
        return
    if not isinstance(parameter, nn.Parameter):
        raise _not_own(bound)
    assert bound.learned is not None
    _attach(module, bound, parameter)  # whether it is the module's own, the backward pass will tell
    expect = partial(_expect_sharded, weakref.ref(module), bound.learned)
    parameter.register_post_accumulate_grad_hook(expect)


def _attach(module: nn.Module, bound: BoundWeight, parameter: Tensor) -> None:
    hook = partial(_taught_gradient, weakref.ref(module), weakref.ref(parameter), bound)
    _hooked[parameter] = parameter.register_hook(hook)


def _not_own(bound: BoundWeight) -> ModelError:
    return ModelError(
        f"the feedback of '{bound.weight}' is not the module's own parameter",
        notes=["its own carries the local loss by which it learns; another gets no gradient"],
        help="call the model itself; functional_call works without '*fxbio_feedback*', and "
        "fully_shard in the place of FullyShardedDataParallel",
    )


def _self_taught(
    module: nn.Module, weights: tuple[BoundWeight, ...]
) -> Iterator[tuple[BoundWeight, Tensor]]:
    for bound in weights:
        if bound.learned is not None and not bound.rule.tied:
            yield bound, getattr(module, bound.learned)


@torch.no_grad()
def _taught_gradient(
    home: weakref.ref[nn.Module],
    hooked: weakref.ref[Tensor],
    bound: BoundWeight,
    gradient: Tensor,
) -> Tensor | None:
    """The gradient of a feedback parameter, from what the ops gave."""
    module, parameter = home(), hooked()
    if module is None or parameter is None or bound.learned is None:
        return None
    if getattr(module, bound.learned) is not parameter:
        raise _not_own(bound)
    before = _accumulated(parameter)
    state = state_of(module)
    done = 0 if before is None else state.passes.get(bound.learned, 0)
    if before is not None and done and not before.any():
        done = 0  # gradients that were set to zero are those of no earlier pass
    state.passes[bound.learned] = done + 1
    local = local_gradient(module, bound, "noise", state.updates)
    total = gradient if local is None else gradient + local
    return total if before is None or not done else (total - before).to(total.dtype) / (done + 1)


def _accumulated(parameter: Tensor) -> Tensor | None:
    """The gradient that earlier passes left, in part with the sharded parameter, if it is whole."""
    sharded: Tensor | None = _sharded.get(parameter)
    shared = None if sharded is None or sharded.grad is None else gathered(sharded.grad)
    if parameter.grad is None or shared is None:
        return parameter.grad if shared is None else shared
    return parameter.grad + shared


def _expect_sharded(home: weakref.ref[nn.Module], name: str, parameter: Tensor) -> None:
    after_backward(partial(_find_sharded, home, name, parameter))


def _find_sharded(home: weakref.ref[nn.Module], name: str, parameter: Tensor) -> None:
    """Remember what is in the place of a parameter when no pass runs."""
    at_rest = getattr(home(), name, parameter)
    if at_rest is not parameter:
        _sharded[parameter] = at_rest
