"""The error of an output sent straight to receivers below it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fxbio.ops.custom_op import custom_op
from fxbio.ops.labels import recovered_labels
from fxbio.rules.projection import feature_error

__all__ = ["broadcast"]


@custom_op("broadcast")
def broadcast(output: Tensor, inlets: list[Tensor], targets: bool, mean: bool) -> Tensor:
    """``output`` in the forward pass; backward, its error goes to the inlets as well.

    Args:
        output: (N, K) or (N, …, K), or (N, K, …) with two or more dimensions behind.
        inlets: from ``inlet`` and ``label_inlet``, (N, K) or (N, T…, K).
        targets: send the labels instead of the error (Frenkel et al. 2021, DRTP).
        mean: whether the loss is the mean over the batch; used with labels only.

    Returns:
        A copy of ``output``. A custom op must not return its argument.
    """
    return output.clone()


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    out, inlets, ctx.targets, ctx.mean = inputs
    ctx.inlets = [(inlet.dim() - 1, inlet.dtype) for inlet in inlets]
    ctx.save_for_backward(*([out] if ctx.targets else []))


def _backward(ctx: Any, error: Tensor) -> tuple[Any, ...]:
    sent = error
    if ctx.targets:
        sent = recovered_labels(*ctx.saved_tensors, error, ctx.mean)
        sent = sent / error.shape[0] if ctx.mean else sent
    made: dict[Any, Tensor] = {}  # one tensor for all inlets that want the same
    for leading, dtype in ctx.inlets:
        if (leading, dtype) not in made:
            made[leading, dtype] = feature_error(sent, leading).to(dtype)
    return error, [made[wanted] for wanted in ctx.inlets], None, None


broadcast.register_autograd(_backward, setup_context=_setup_context)
