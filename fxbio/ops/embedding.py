"""Look-up of the rows of a table under a rule.

Below it there is no error: its input are indices. A rule may leave the table as it is, or say
nothing at all about the way back; a feedback weight it has no use for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fxbio.ops.custom_op import custom_op

__all__ = ["embedding"]


@custom_op("embedding")
def embedding(
    x: Tensor, weight: Tensor, padding_idx: int, scale_grad_by_freq: bool, sparse: bool, rule: str
) -> Tensor:
    """The rows ``weight[x]``; the table gets the sum of the errors of each row.

    Args:
        x: indices, integers of any shape.
        weight: (rows, features).
        padding_idx: a row that does not learn; -1 for none.
        scale_grad_by_freq: whether the gradient of a row is divided by how often it was read.
        sparse: whether the gradient is a sparse tensor.
        rule: spec string of the rule.

    Returns:
        (*x.shape, features), bitwise what ``F.embedding`` gives.
    """
    return torch.embedding(weight, x, padding_idx, scale_grad_by_freq, sparse)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, *ctx.options, _ = inputs
    ctx.rows = weight.shape[0]
    ctx.save_for_backward(x)


def _backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
    (x,) = ctx.saved_tensors
    table = torch.ops.aten.embedding_backward(error, x, ctx.rows, *ctx.options)
    return None, table, None, None, None, None


embedding.register_autograd(_backward, setup_context=_setup_context)
