"""``y = x Wᵀ + b`` whose error goes back through a feedback weight."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from fxbio.ops.activity import tokens
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

__all__ = ["linear"]


@custom_op("linear")
def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    feedback: Tensor | None,
    rule: str,
    scale: float,
) -> Tensor:
    """``x Wᵀ + b`` in the forward pass, ``∂L/∂x = scale · δ B`` in the backward pass.

    Args:
        x: (…, in), any number of leading dimensions.
        weight: (out, in).
        bias: (out,) or ``None``.
        feedback: the drawn part of B, (out, in), or ``None``.
        rule: spec string of the rule.
        scale: constant factor of B.

    Returns:
        (…, out), bitwise what ``F.linear(x, weight, bias)`` gives.
    """
    return not_a_view(F.linear(x, weight, bias))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, feedback, ctx.rule, ctx.scale = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(x, weight, feedback)


def _backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, drawn = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, needs_feedback = ctx.needs_input_grad[:4]
    grad_x = grad_weight = grad_bias = grad_feedback = None
    if needs_x and parse_rule(ctx.rule).passes_error:
        grad_x = scaled_product(error, feedback_of(weight, drawn, ctx.rule, error), ctx.scale)
    flat_error = error.reshape(-1, error.shape[-1])
    if wants_weight_gradient(ctx.rule, needs_weight, needs_feedback):
        grad_weight = flat_error.t() @ x.reshape(-1, x.shape[-1])
    if ctx.has_bias and needs_bias:
        grad_bias = flat_error.sum(0)
    if needs_feedback:
        watched = Watched(weight, partial(tokens, x))
        grad_feedback = feedback_gradient(ctx.rule, drawn, grad_weight, watched)
    return grad_x, grad_weight if needs_weight else None, grad_bias, grad_feedback, None, None


def _narrow_backward(ctx: Any, error: Tensor, kept: Tensor) -> tuple[Tensor | None, ...]:
    """The same for an error of which only the outputs ``kept`` count: smaller dense products."""
    x, weight, drawn = ctx.saved_tensors
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
    part = error.index_select(-1, kept)
    flat = part.reshape(-1, part.shape[-1])
    grad_x = grad_weight = grad_bias = None
    if needs_x and parse_rule(ctx.rule).passes_error:
        matrix = feedback_of(weight, drawn, ctx.rule, error).index_select(0, kept)
        grad_x = scaled_product(part, matrix, ctx.scale)
    if needs_weight:
        rows = flat.t() @ x.reshape(-1, x.shape[-1])
        grad_weight = rows.new_zeros(weight.shape).index_copy(0, kept, rows)
    if ctx.has_bias and needs_bias:
        grad_bias = flat.new_zeros(weight.shape[0]).index_copy(0, kept, flat.sum(0))
    return grad_x, grad_weight, grad_bias, None, None, None


def scaled_product(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """``scale · left @ right``, with the scale applied where there is least to multiply."""
    if scale == 1.0:
        return left @ right
    if right.numel() <= left.numel():
        return left @ (right * scale)
    return (left @ right) * scale


linear.register_autograd(
    with_transforms(_backward, narrow=_narrow_backward), setup_context=_setup_context
)
register_autocast("linear", operands=3)
