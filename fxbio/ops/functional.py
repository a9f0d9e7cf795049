"""The custom ops behind the signatures of ``torch.nn.functional``, with the backward path appended.

Here string paddings, unbatched inputs and scalar geometry are brought into the one form that the
``fxbio::convolution`` op takes, the way ATen does it, so that outputs stay bitwise equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fxbio.ops import matmul as matmul_ops
from fxbio.ops.convolution import convolution
from fxbio.ops.linear import linear as linear_op
from fxbio.ops.surrogate import surrogate

__all__ = [
    "Backward",
    "addmm",
    "bilinear",
    "conv",
    "conv_transpose",
    "einsum",
    "linear",
    "matmul",
    "tensordot",
]

Ints = int | Sequence[int]


class Backward(NamedTuple):
    """How the error crosses one weight: what a lowered operation needs besides its operands."""

    rule: str
    """Spec string of the rule."""
    scale: float
    """Constant factor of the feedback weight."""
    feedback: Tensor | None
    """The drawn part of the feedback weight."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, backward: Backward) -> Tensor:
    """``F.linear`` under a rule."""
    rule, scale, feedback = backward
    return linear_op(x, weight, bias, feedback, rule, scale)


def matmul(left: Tensor, right: Tensor, *, weight_is_left: bool, backward: Backward) -> Tensor:
    """``torch.matmul`` of a weight and an activation under a rule."""
    rule, scale, feedback = backward
    return matmul_ops.matmul(left, right, feedback, rule, scale, weight_is_left)


def addmm(
    bias: Tensor,
    x: Tensor,
    weight: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    backward: Backward,
) -> Tensor:
    """``torch.addmm``, or ``torch.baddbmm`` of batches, under a rule."""
    rule, scale, feedback = backward
    return matmul_ops.addmm(bias, x, weight, feedback, rule, scale, float(beta), float(alpha))


def einsum(equation: str, *operands: Tensor, weight_at: int, backward: Backward) -> Tensor:
    """``torch.einsum`` under a rule; ``weight_at`` counts the operands."""
    return _surrogate(partial(torch.einsum, equation), operands, weight_at, backward)


def bilinear(
    x1: Tensor, x2: Tensor, weight: Tensor, bias: Tensor | None = None, *, backward: Backward
) -> Tensor:
    """``F.bilinear`` under a rule."""
    result = _surrogate(F.bilinear, (x1, x2, weight), 2, backward)
    return result if bias is None else result + bias


def tensordot(
    a: Tensor, b: Tensor, dims: int = 2, *, weight_at: int, backward: Backward
) -> Tensor:
    """``torch.tensordot`` under a rule."""
    return _surrogate(partial(torch.tensordot, dims=dims), (a, b), weight_at, backward)


def _surrogate(
    function: Callable[..., Tensor], operands: tuple[Tensor, ...], at: int, backward: Backward
) -> Tensor:
    def evaluate(detach: bool, weight: Tensor) -> Tensor:
        rest = [o.detach() if detach else o for o in operands]
        return function(*rest[:at], weight, *rest[at + 1 :])

    rule, scale, feedback = backward
    return surrogate(evaluate, operands[at], feedback, rule, scale)


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    backward: Backward,
) -> Tensor:
    """``F.conv1d``, ``F.conv2d`` or ``F.conv3d`` by the rank of the weight, under a rule."""
    spatial = weight.dim() - 2
    step, spread = _each(stride, spatial), _each(dilation, spatial)
    if isinstance(padding, str):
        x, pad = _string_padding(x, weight, padding, spread)
    else:
        pad = _each(padding, spatial)
    geometry = (step, pad, spread, False, [0] * spatial, groups)
    return _batched(x, weight, bias, backward, geometry)


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    backward: Backward,
) -> Tensor:
    """``F.conv_transpose1d`` … ``3d`` by the rank of the weight, under a rule."""
    spatial = weight.dim() - 2
    geometry = (
        _each(stride, spatial),
        _each(padding, spatial),
        _each(dilation, spatial),
        True,
        _each(output_padding, spatial),
        groups,
    )
    return _batched(x, weight, bias, backward, geometry)


def _batched(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    backward: Backward,
    geometry: tuple[list[int], list[int], list[int], bool, list[int], int],
) -> Tensor:
    unbatched = x.dim() == weight.dim() - 1
    x = x.unsqueeze(0) if unbatched else x
    rule, scale, feedback = backward
    result = convolution(x, weight, bias, feedback, rule, scale, *geometry)
    return result.squeeze(0) if unbatched else result


def _each(value: Ints, spatial: int) -> list[int]:
    if isinstance(value, int):
        return [value] * spatial
    values = list(value)
    return values * spatial if len(values) == 1 else values


def _string_padding(
    x: Tensor, weight: Tensor, padding: str, dilation: list[int]
) -> tuple[Tensor, list[int]]:
    """``same`` as ATen computes it: an odd total puts the extra zero behind, by explicit padding."""
    if padding == "valid":
        return x, [0] * len(dilation)
    totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    extra = [total % 2 for total in totals]
    if any(extra):
        x = F.pad(x, [side for e in reversed(extra) for side in (0, e)])
    return x, [total // 2 for total in totals]
