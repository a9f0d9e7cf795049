"""A loss of its own that a layer adds to the loss of the model, in the same backward pass."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fxbio.ops.custom_op import custom_op

__all__ = ["add_loss"]


@custom_op("add_loss")
def add_loss(y: Tensor, loss: Tensor) -> Tensor:
    """``y`` itself; in the backward pass, ``loss`` is trained as if it had been added to the loss.

    Whenever an error reaches ``y``, it passes unchanged and ``∂L/∂loss = 1``. Of several tensors
    on the path of an error, give the smallest: an op must not return its input, so ``y`` is copied.

    Args:
        y: any tensor on the path of the error.
        loss: a scalar that depends on what is to learn from it. Cut it off from all else.

    Returns:
        A copy of ``y``.
    """
    return y.clone()


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    loss = inputs[1]
    ctx.loss_shape, ctx.loss_dtype = loss.shape, loss.dtype


def _backward(ctx: Any, error: Tensor) -> tuple[Tensor, Tensor | None]:
    if not ctx.needs_input_grad[1]:
        return error, None
    return error, error.new_ones(ctx.loss_shape, dtype=ctx.loss_dtype)


add_loss.register_autograd(_backward, setup_context=_setup_context)
