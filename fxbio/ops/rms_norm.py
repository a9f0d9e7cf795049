"""Root-mean-square normalisation whose error goes back through a feedback vector."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._prims_common import get_computation_dtype

from fxbio.ops.autocast import register_autocast
from fxbio.ops.custom_op import custom_op
from fxbio.ops.feedback_weight import feedback_gradient, parse_rule, wants_weight_gradient
from fxbio.ops.norm_backward import scale_vector

__all__ = ["rms_norm"]


@custom_op("rms_norm")
def rms_norm(
    x: Tensor,
    normalized_shape: list[int],
    weight: Tensor,
    eps: float | None,
    feedback: Tensor | None,
    rule: str,
    scale: float,
) -> Tensor:
    """``γ x / √(mean x² + ε)`` in the forward pass, with ``scale · B`` for γ in the backward pass.

    Args:
        x: (…, *normalized_shape).
        normalized_shape: the trailing dimensions that are normalised together.
        weight: the scale γ, of shape ``normalized_shape``.
        eps: ε; by default the machine epsilon of the precision that it is computed in.
        feedback: the drawn part of B in the shape of ``weight``, or ``None``.
        rule: spec string of the rule.
        scale: constant factor of B.

    Returns:
        The shape of ``x``, bitwise what ``F.rms_norm`` gives.
    """
    return F.rms_norm(x, normalized_shape, weight, eps)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.normalized_shape, weight, ctx.eps, feedback, ctx.rule, ctx.scale = inputs
    ctx.save_for_backward(x, weight, feedback)


def _backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, drawn = ctx.saved_tensors
    needs_x, _, needs_weight, _, needs_feedback, *_ = ctx.needs_input_grad
    grad_x = grad_weight = grad_feedback = None
    wide = x.to(get_computation_dtype(x.dtype))
    error, inverse = error.to(wide.dtype), _inverse_size(wide, ctx.normalized_shape, ctx.eps)
    if needs_x and parse_rule(ctx.rule).passes_error:
        arriving = error * scale_vector(ctx, weight, drawn)
        grad_x = _below(arriving, wide, inverse, ctx.normalized_shape).to(x.dtype)
    if wants_weight_gradient(ctx.rule, needs_weight, needs_feedback):
        grad_weight = (error * (wide * inverse)).sum_to_size(weight.shape).to(weight.dtype)
    if needs_feedback:
        grad_feedback = feedback_gradient(ctx.rule, drawn, grad_weight)
    return grad_x, None, grad_weight if needs_weight else None, None, grad_feedback, None, None


def _inverse_size(x: Tensor, normalized_shape: list[int], eps: float | None) -> Tensor:
    """``1 / √(mean x² + ε)``."""
    mean = x.square().mean(_dims(normalized_shape), keepdim=True)
    return torch.rsqrt(mean + (torch.finfo(x.dtype).eps if eps is None else eps))


def _below(arriving: Tensor, x: Tensor, inverse: Tensor, normalized_shape: list[int]) -> Tensor:
    """The gradient by ``x``, in the order of autograd: under backprop the last digit is its own."""
    of_inverse = (arriving * x).sum(_dims(normalized_shape), keepdim=True)
    of_mean = -0.5 * of_inverse * inverse.pow(3) / math.prod(normalized_shape)
    return arriving * inverse + of_mean * (2 * x)


def _dims(normalized_shape: list[int]) -> tuple[int, ...]:
    return tuple(range(-len(normalized_shape), 0))


rms_norm.register_autograd(_backward, setup_context=_setup_context)
register_autocast("rms_norm", operands=3, dtype=torch.float32, devices=("cuda", "xpu"))
