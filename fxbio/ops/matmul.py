"""``x @ W``, ``W @ x`` and ``b + x @ W`` whose error goes back through a feedback weight."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fxbio.ops.autocast import register_autocast
from fxbio.ops.custom_op import custom_op, not_a_view
from fxbio.ops.feedback_weight import (
    feedback_gradient,
    feedback_of,
    parse_rule,
    wants_weight_gradient,
)
from fxbio.ops.linear import scaled_product
from fxbio.ops.transformed_error import Move, with_transforms

__all__ = ["addmm", "matmul"]


@custom_op("matmul")
def matmul(
    left: Tensor,
    right: Tensor,
    feedback: Tensor | None,
    rule: str,
    scale: float,
    weight_is_left: bool,
) -> Tensor:
    """``left @ right`` where one operand is the weight and the other an activation.

    Args:
        left: (…, n, k) or (k,).
        right: (…, k, m) or (k,); leading dimensions broadcast.
        feedback: the drawn part of B in the shape of the weight, or ``None``.
        rule: spec string of the rule.
        scale: constant factor of B.
        weight_is_left: which operand is the weight.

    Returns:
        Bitwise what ``torch.matmul(left, right)`` gives.
    """
    return not_a_view(torch.matmul(left, right))


def _matmul_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    left, right, feedback, ctx.rule, ctx.scale, ctx.weight_is_left = inputs
    ctx.save_for_backward(left, right, feedback)


def _matmul_backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
    left, right, drawn = ctx.saved_tensors
    needs, needs_feedback = ctx.needs_input_grad[:2], ctx.needs_input_grad[2]
    at = 0 if ctx.weight_is_left else 1
    tied = wants_weight_gradient(ctx.rule, needs[at], needs_feedback)
    wanted = (tied, needs[1]) if at == 0 else (needs[0], tied)
    factors = _backward_factors(left, right, drawn, ctx, error)
    scales = (ctx.scale, 1.0) if ctx.weight_is_left else (1.0, ctx.scale)
    grads = _product_gradients(left, right, *factors, error, wanted, scales)
    grad_feedback = feedback_gradient(ctx.rule, drawn, grads[at]) if needs_feedback else None
    grad_left, grad_right = (g if n else None for g, n in zip(grads, needs, strict=True))
    return grad_left, grad_right, grad_feedback, None, None, None


def _backward_factors(
    left: Tensor, right: Tensor, drawn: Tensor | None, ctx: Any, error: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Substitutes of ``left`` in ∂/∂right and of ``right`` in ∂/∂left; the weight's is B."""
    if not parse_rule(ctx.rule).passes_error:
        return (None, right) if ctx.weight_is_left else (left, None)
    if ctx.weight_is_left:
        return feedback_of(left, drawn, ctx.rule, error), right
    return left, feedback_of(right, drawn, ctx.rule, error)


def _product_gradients(
    left: Tensor,
    right: Tensor,
    as_left: Tensor | None,
    as_right: Tensor | None,
    error: Tensor,
    wanted: tuple[bool, bool],
    scales: tuple[float, float],
) -> tuple[Tensor | None, Tensor | None]:
    """``∂L/∂left = δ as_rightᵀ`` and ``∂L/∂right = as_leftᵀ δ``, summed where operands broadcast.

    ``scales`` multiply ``as_left`` and ``as_right``: that of the feedback weight, and 1.
    """
    rows, columns = left.dim() > 1, right.dim() > 1
    error = error if columns else error.unsqueeze(-1)
    error = error if rows else error.unsqueeze(-2)
    grad_left = grad_right = None
    if wanted[0] and as_right is not None:
        factor = (as_right if columns else as_right.unsqueeze(-1)).mT
        shape = left.shape if rows else (1, *left.shape)
        grad_left = _product_summed_to(shape, error, factor, scales[1]).reshape(left.shape)
    if wanted[1] and as_left is not None:
        factor = (as_left if rows else as_left.unsqueeze(-2)).mT
        shape = right.shape if columns else (*right.shape, 1)
        grad_right = _product_summed_to(shape, factor, error, scales[0]).reshape(right.shape)
    return grad_left, grad_right


def _product_summed_to(
    shape: torch.Size | tuple[int, ...], left: Tensor, right: Tensor, scale: float
) -> Tensor:
    """``scale · left @ right`` summed over the leading dimensions that ``shape`` lacks.

    A matrix that was broadcast over a batch gets its gradient from one product over the folded
    batch; the product of every batch entry on its own would be as large as batch × matrix.
    """
    if len(shape) == 2 and left.dim() == right.dim() > 2 and left.shape[:-2] == right.shape[:-2]:
        left = left.movedim(-2, 0).reshape(left.shape[-2], -1)
        right = right.reshape(-1, right.shape[-1])
    return scaled_product(left, right, scale).sum_to_size(shape)


def _outputs_last(ctx: Any, error: Tensor) -> tuple[Move, Move]:
    """In ``W @ x`` each column is a sample."""
    columns = ctx.weight_is_left and ctx.saved_tensors[1].dim() > 1

    def move(error: Tensor) -> Tensor:
        return error.mT if columns else error

    return move, move


matmul.register_autograd(
    with_transforms(_matmul_backward, layout=_outputs_last), setup_context=_matmul_setup
)
register_autocast("matmul", operands=2)


@custom_op("addmm")
def addmm(
    bias: Tensor,
    x: Tensor,
    weight: Tensor,
    feedback: Tensor | None,
    rule: str,
    scale: float,
    beta: float,
    alpha: float,
) -> Tensor:
    """``beta · bias + alpha · x @ W``, of matrices or of batches of matrices.

    Args:
        bias: broadcastable to the result.
        x: (n, in) or (batch, n, in).
        weight: (in, out) or (batch, in, out).
        feedback: the drawn part of B in the shape of ``weight``, or ``None``.
        rule: spec string of the rule.
        scale: constant factor of B.
        beta: factor of the bias.
        alpha: factor of the product.

    Returns:
        Bitwise what ``torch.addmm`` or ``torch.baddbmm`` gives.
    """
    function = torch.addmm if weight.dim() == 2 else torch.baddbmm
    return function(bias, x, weight, beta=beta, alpha=alpha)


def _addmm_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    bias, x, weight, feedback, ctx.rule, ctx.scale, ctx.beta, ctx.alpha = inputs
    ctx.bias_shape = bias.shape
    ctx.save_for_backward(x, weight, feedback)


def _addmm_backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, drawn = ctx.saved_tensors
    needs_bias, needs_x, needs_weight, needs_feedback = ctx.needs_input_grad[:4]
    grad_bias = grad_x = grad_weight = grad_feedback = None
    if needs_bias:
        grad_bias = error.sum_to_size(ctx.bias_shape)
        grad_bias = grad_bias if ctx.beta == 1.0 else grad_bias * ctx.beta
    if needs_x and parse_rule(ctx.rule).passes_error:
        matrix = feedback_of(weight, drawn, ctx.rule, error).mT
        grad_x = scaled_product(error, matrix, ctx.scale * ctx.alpha)
    if wants_weight_gradient(ctx.rule, needs_weight, needs_feedback):
        grad_weight = scaled_product(x.mT, error, ctx.alpha)
    if needs_feedback:
        grad_feedback = feedback_gradient(ctx.rule, drawn, grad_weight)
    grad_weight = grad_weight if needs_weight else None
    return grad_bias, grad_x, grad_weight, grad_feedback, *[None] * 4


addmm.register_autograd(with_transforms(_addmm_backward, x_at=1), setup_context=_addmm_setup)
register_autocast("addmm", operands=3)
