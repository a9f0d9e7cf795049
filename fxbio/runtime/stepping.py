"""Parameters that a step of an optimizer has moved.

Optimizers call others inside of their step, to shard it or to look ahead: only the outermost step
is reported. A step moves nothing where a gradient scaler skips it, where a CUDA graph records it
for later, and where the learning rate is zero, as in warm-up and when a checkpoint has an optimizer
make its state.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd import Variable
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from fxbio.runtime.sharding import gathered

__all__ = ["Step", "after_backward", "report_steps"]


class Step(NamedTuple):
    """One outermost step of an optimizer, at its end."""

    optimizer: Optimizer
    skipped: bool
    """Whether it has moved no parameter at all."""
    unchanged: frozenset[int]
    """Ids of parameters with a gradient that have the values of before."""

    def moved(self, parameter: Tensor) -> bool:
        """True if it has changed a parameter, which the optimizer holds."""
        if self.skipped or parameter.grad is None:
            return False
        return id(parameter) not in self.unchanged


_resting: weakref.WeakKeyDictionary[Optimizer, list[tuple[Tensor, Tensor]]]
_resting = weakref.WeakKeyDictionary()
"""Parameters that a step under way should not change, with their values before it."""

_STEP = Optimizer.profile_hook_step(lambda: None).__code__
"""The code that torch runs around the step of every optimizer."""


def report_steps(report: Callable[[Step], None]) -> None:
    """Have a function called at the end of every outermost step of any optimizer."""
    register_optimizer_step_pre_hook(torch.compiler.disable(_begin))
    register_optimizer_step_post_hook(torch.compiler.disable(partial(_end, report)))


def after_backward(action: Callable[[], None]) -> None:
    """Do something at the end of the backward pass that is under way, or at once if none is."""
    if torch._C._current_graph_task_id() == -1:
        action()
    else:
        Variable._execution_engine.queue_callback(action)


def _begin(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if not _is_outermost():
        return
    resting = [group for group in optimizer.param_groups if _has_no_rate(group)]
    parameters = [p for group in resting for p in group["params"] if p.grad is not None]
    _resting[optimizer] = [(p, gathered(p.detach()).clone()) for p in parameters]


def _end(report: Callable[[Step], None], optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if not _is_outermost():
        return
    before = _resting.pop(optimizer, [])
    same = (id(p) for p, value in before if torch.equal(gathered(p.detach()), value))
    report(Step(optimizer, _is_skipped(optimizer), frozenset(same)))


def _is_outermost() -> bool:
    """True if no other step is under way in this thread; one that an error has left is not."""
    steps, caller = 0, cast(FrameType | None, sys._getframe(1))
    while caller is not None:
        steps += caller.f_code is _STEP
        caller = caller.f_back
    return steps <= 1  # none in compiled code


def _has_no_rate(group: dict[str, Any]) -> bool:
    rate = group.get("lr")
    if isinstance(rate, Tensor) and rate.device.type != "cpu":
        return False  # to read it, the host would wait for the device
    return rate is not None and bool(rate == 0)


def _is_skipped(optimizer: Optimizer) -> bool:
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        return True
    infinite: Tensor | None = getattr(optimizer, "found_inf", None)  # of a scaler, for fused steps
    return infinite is not None and bool(infinite)
