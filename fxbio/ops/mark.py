"""Marks on the boundaries of modules, for the scope that routes errors between them.

A mark is a custom op, because that is what every way of tracing shows to a
``TorchFunctionMode``: a plain function is inlined by ``torch.compile`` and never seen.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fxbio.errors import ModelError
from fxbio.ops.custom_op import custom_op

__all__ = ["ENTER", "LEAVE", "SOURCE", "mark"]

ENTER, LEAVE, SOURCE = "enter", "leave", "source"
"""A tensor goes into a module, comes out of it, or is where the error is taken from."""


@custom_op("mark")
def mark(x: Tensor, event: str, name: str) -> Tensor:
    """A copy of ``x``, where no scope is active; a scope answers the mark without running it.

    No error passes a mark that was not answered: it would be backprop's.

    Args:
        x: any tensor.
        event: ``enter``, ``leave`` or ``source``.
        name: path of the module.
    """
    return x.clone()


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.name = inputs[2]


def _backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
    raise ModelError(
        f"'{ctx.name}' ran outside of the model that routes its error, so its rule was not there",
        notes=["it was called by itself, or activation checkpointing recomputed it"],
        help="call the whole model; checkpoint the whole model, or only what lies inside of a "
        "block; or run it under plain backprop: with fxbio.backprop(model)",
    )


mark.register_autograd(_backward, setup_context=_setup_context)
