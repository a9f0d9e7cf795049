"""Common parts of the backward passes of the normalisation ops."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fxbio.ops.feedback_weight import (
    feedback_gradient,
    feedback_of,
    parse_rule,
    wants_weight_gradient,
)

__all__ = ["keep", "scale_vector", "wanted_gradients", "wanted_of"]


def keep(
    ctx: Any,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    feedback: Tensor | None,
    statistics: tuple[Tensor, ...],
) -> None:
    """Keep what the backward pass needs; the results but the first have no gradient."""
    ctx.mark_non_differentiable(*statistics)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, bias, feedback, *statistics)


def wanted_gradients(ctx: Any, x: int, weight: int, bias: int, feedback: int) -> list[bool]:
    """Mask of the gradients that the kernel is to compute, by positions of the inputs."""
    needs = ctx.needs_input_grad
    wants_weight = wants_weight_gradient(ctx.rule, needs[weight], needs[feedback])
    return [needs[x] and parse_rule(ctx.rule).passes_error, wants_weight, needs[bias]]


def scale_vector(ctx: Any, weight: Tensor, drawn: Tensor | None) -> Tensor:
    """``scale · B`` in the dtype of γ, which need not be that of the error."""
    if not parse_rule(ctx.rule).passes_error:
        return weight
    matrix = feedback_of(weight, drawn, ctx.rule, weight)
    return matrix if ctx.scale == 1.0 else matrix * ctx.scale


def wanted_of(
    ctx: Any,
    mask: list[bool],
    grads: tuple[Tensor, ...],
    drawn: Tensor,
    weight: int,
    feedback: int,
) -> tuple[Tensor | None, ...]:
    """Those by x, γ, bias and feedback; what was not asked of a kernel may be anything.

    ``weight`` and ``feedback`` are positions of inputs.
    """
    x, gamma, bias = (g if wanted else None for wanted, g in zip(mask, grads, strict=True))
    needs = ctx.needs_input_grad
    grad_feedback = feedback_gradient(ctx.rule, drawn, gamma) if needs[feedback] else None
    return x, gamma if needs[weight] else None, bias, grad_feedback
