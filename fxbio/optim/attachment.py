"""Base of the constraints: the parameters that they act on, and their removal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from torch import Tensor
from torch.optim import LBFGS, Optimizer
from torch.utils.hooks import RemovableHandle

from fxbio.errors import FxbioError

__all__ = ["Attachment", "Chosen", "all_parameters", "choose", "matrices"]

Chosen: TypeAlias = Callable[[], Iterable[Tensor]]
"""The parameters to act on, asked for anew at each step: groups may be added to an optimizer."""


class Attachment:
    """A constraint on an optimizer. ``remove()`` ends it; so does the end of a ``with`` block."""

    def __init__(self, *handles: RemovableHandle) -> None:
        self._handles = handles

    def remove(self) -> None:
        """Take the hooks off the optimizer. A second call does nothing."""
        for handle in self._handles:
            handle.remove()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def choose(
    optimizer: Optimizer, params: Iterable[Tensor] | None, default: Callable[[Tensor], bool]
) -> Chosen:
    """The given parameters; or, where none are given, those of the optimizer that fit.

    Raises:
        FxbioError: for an optimizer that evaluates the loss several times in a step, and for a
            parameter that the optimizer does not hold.
    """
    if isinstance(optimizer, LBFGS):
        raise FxbioError(
            "LBFGS takes several steps in one and estimates curvature from them; a constraint "
            "between those would make the estimate wrong",
            help="use an optimizer with one update per step, such as SGD or Adam",
        )
    if params is None:
        return lambda: filter(default, all_parameters(optimizer))
    chosen = [params] if isinstance(params, Tensor) else list(params)
    held = {id(p) for p in all_parameters(optimizer)}
    for number, parameter in enumerate(chosen):
        if id(parameter) not in held:
            raise FxbioError(
                f"parameter {number} of params, of shape {tuple(parameter.shape)}, is not held by "
                f"this {type(optimizer).__name__}",
                help="pass parameters that the optimizer was made with, or leave params out",
            )
    return lambda: chosen


def all_parameters(optimizer: Optimizer) -> Iterator[Tensor]:
    """Every parameter of every group, in the order of the optimizer's ``state_dict``."""
    for group in optimizer.param_groups:
        yield from group["params"]


def matrices(parameter: Tensor) -> bool:
    """True if it has at least two dimensions: weights have, biases and scales have one."""
    return parameter.dim() > 1
