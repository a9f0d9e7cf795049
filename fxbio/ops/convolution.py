"""Convolutions, plain and transposed, whose error goes back through a feedback weight.

One call of ``convolution_backward`` gives all three gradients: it reads the weight for the
gradient of the input only, so the feedback weight takes its place there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fxbio.ops.activity import patches
from fxbio.ops.autocast import register_autocast
from fxbio.ops.custom_op import custom_op, not_a_view
from fxbio.ops.feedback_weight import (
    Watched,
    feedback_gradient,
    feedback_of,
    parse_rule,
    wants_weight_gradient,
)
from fxbio.ops.transformed_error import with_transforms

__all__ = ["convolution"]


@custom_op("convolution")
def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    feedback: Tensor | None,
    rule: str,
    scale: float,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor:
    """A batched convolution in the forward pass, one with ``scale · B`` in the backward pass.

    Args:
        x: (N, C_in, …) with one, two or three spatial dimensions.
        weight: (C_out, C_in/groups, …), or (C_in, C_out/groups, …) when ``transposed``.
        bias: (C_out,) or ``None``.
        feedback: the drawn part of B in the shape of ``weight``, or ``None``.
        rule: spec string of the rule.
        scale: constant factor of B.
        stride: one number for each spatial dimension, as the next two and ``output_padding``.
        padding: zeros on both sides.
        dilation: distance of the taps.
        transposed: whether it is a transposed convolution.
        output_padding: of a transposed convolution.
        groups: number of groups.

    Returns:
        (N, C_out, …), bitwise what the ``F.conv`` functions give.
    """
    geometry = (stride, padding, dilation, transposed, output_padding, groups)
    return not_a_view(torch.convolution(x, weight, bias, *geometry))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, feedback, ctx.rule, ctx.scale, *ctx.geometry = inputs
    ctx.bias_size = None if bias is None else [bias.shape[0]]
    ctx.save_for_backward(x, weight, feedback)


def _backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, drawn = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, needs_feedback = ctx.needs_input_grad[:4]
    wants_weight = wants_weight_gradient(ctx.rule, needs_weight, needs_feedback)
    needs_x = needs_x and parse_rule(ctx.rule).passes_error
    matrix, late_scale = weight, 1.0
    if needs_x:
        matrix = feedback_of(weight, drawn, ctx.rule, error)
        matrix, late_scale = _scale_smaller(matrix, x, ctx.scale)
    grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        error,
        x,
        matrix,
        ctx.bias_size,
        *ctx.geometry,
        [needs_x, wants_weight, needs_bias and ctx.bias_size is not None],
    )
    if needs_x and late_scale != 1.0:
        grad_x = grad_x * late_scale
    grad_x, returned = grad_x if needs_x else None, grad_weight if needs_weight else None
    grad_feedback = None
    if needs_feedback:
        watched = Watched(weight, partial(_patches, ctx.geometry, x, weight))
        grad_feedback = feedback_gradient(ctx.rule, drawn, grad_weight, watched)
    return grad_x, returned, grad_bias, grad_feedback, *[None] * 8


def _patches(geometry: Sequence[Any], x: Tensor, weight: Tensor, share: float) -> Tensor:
    stride, padding, dilation, _, _, groups = geometry
    return patches(x, weight.shape[2:], stride, padding, dilation, groups, share)


def _scale_smaller(matrix: Tensor, x: Tensor, scale: float) -> tuple[Tensor, float]:
    """Scale the feedback now, or its product later: whichever has fewer entries."""
    if scale == 1.0 or x.numel() < matrix.numel():
        return matrix, scale
    return matrix * scale, 1.0


convolution.register_autograd(
    with_transforms(_backward, sample_dim=1), setup_context=_setup_context
)
register_autocast("convolution", operands=3)
