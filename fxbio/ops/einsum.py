"""``einsum`` of an activation and a weight, whose error goes back through a feedback weight."""

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
from fxbio.ops.transformed_error import Move, with_transforms

__all__ = ["einsum", "explicit_equation"]


def explicit_equation(equation: str) -> tuple[str, str, str] | None:
    """The subscripts of two operands and of the result.

    Returns:
        ``None`` where the gradients are not einsums of the same letters: with an ellipsis, a
        diagonal, or an index that is summed within one operand. Also where nothing is summed at
        all, which torch multiplies elementwise and out of reach of autocast.
    """
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    operands = inputs.split(",")
    if len(operands) != 2 or "." in equation:
        return None
    first, second = operands
    if not arrow:
        letters = first + second
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    diagonal = any(len(set(part)) < len(part) for part in (first, second, output))
    lonely = set(first) - set(second + output) | set(second) - set(first + output)
    summed = set(first) - set(output)
    return None if diagonal or lonely or not summed else (first, second, output)


@custom_op("einsum")
def einsum(
    x: Tensor,
    weight: Tensor,
    feedback: Tensor | None,
    rule: str,
    scale: float,
    equation: str,
    weight_at: int,
) -> Tensor:
    """``torch.einsum`` in the forward pass, one with ``scale · B`` in the backward pass.

    Args:
        x: the activation.
        weight: the weight.
        feedback: the drawn part of B in the shape of ``weight``, or ``None``.
        rule: spec string of the rule.
        scale: constant factor of B.
        equation: subscripts that ``explicit_equation`` accepts.
        weight_at: whether the weight is the first (0) or the second (1) operand.
    """
    return not_a_view(torch.einsum(equation, *_ordered(x, weight, weight_at)))


def _ordered(x: Tensor, weight: Tensor, weight_at: int) -> tuple[Tensor, Tensor]:
    return (weight, x) if weight_at == 0 else (x, weight)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, feedback, ctx.rule, ctx.scale, ctx.equation, ctx.weight_at = inputs
    ctx.save_for_backward(x, weight, feedback)


def _backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, drawn = ctx.saved_tensors
    needs_x, needs_weight, needs_feedback = ctx.needs_input_grad[:3]
    subscripts = explicit_equation(ctx.equation)
    assert subscripts is not None
    of_weight, of_x = subscripts[ctx.weight_at], subscripts[1 - ctx.weight_at]
    of_error = subscripts[2]
    grad_x = grad_weight = grad_feedback = None
    if needs_x and parse_rule(ctx.rule).passes_error:
        matrix = feedback_of(weight, drawn, ctx.rule, error) * ctx.scale
        grad_x = torch.einsum(f"{of_error},{of_weight}->{of_x}", error, matrix)
    if wants_weight_gradient(ctx.rule, needs_weight, needs_feedback):
        grad_weight = torch.einsum(f"{of_error},{of_x}->{of_weight}", error, x)
    if needs_feedback:
        grad_feedback = feedback_gradient(ctx.rule, drawn, grad_weight)
    return grad_x, grad_weight if needs_weight else None, grad_feedback, *[None] * 4


def _outputs_last(ctx: Any, error: Tensor) -> tuple[Move, Move]:
    """Moves of the dimensions that the result gains from the weight into a last one, and back."""
    subscripts = explicit_equation(ctx.equation)
    assert subscripts is not None
    of_x, of_error = subscripts[1 - ctx.weight_at], subscripts[2]
    outputs = [i for i, letter in enumerate(of_error) if letter not in of_x]
    samples = [i for i, letter in enumerate(of_error) if letter in of_x]
    order, shape = [*samples, *outputs], error.permute([*samples, *outputs]).shape
    inverse = [order.index(i) for i in range(len(order))]

    def to_rows(error: Tensor) -> Tensor:
        return error.permute(order).reshape(*shape[: len(samples)], -1)

    def back(error: Tensor) -> Tensor:
        return error.reshape(shape).permute(inverse)

    return to_rows, back


einsum.register_autograd(
    with_transforms(_backward, layout=_outputs_last), setup_context=_setup_context
)
register_autocast("einsum", operands=2)
