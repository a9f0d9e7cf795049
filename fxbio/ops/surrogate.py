"""Rules for the few linear operations that have no op of their own: einsum, bilinear, tensordot.

For any ``f`` that is linear in the activations given the weight,

    ``t = f(x, B)``,  ``y = f(x.detach(), W) + (t - t.detach())``

has the forward value of ``f(x, W)`` and the gradients of the rule by plain autograd. It costs a
second forward evaluation, which is why the frequent operations have custom ops instead.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fxbio.ops.transport import feedback_of, passes_error

__all__ = ["surrogate"]


@torch.library.custom_op("fxbio::feedback", mutates_args=())
def feedback_tensor(
    weight: Tensor, drawn: Tensor | None, rule: str, scale: float, like: Tensor
) -> Tensor:
    """``scale · B`` in the dtype of ``like``.

    It is an op because dynamo cannot follow a rule. It has no gradient: a feedback that learns
    would raise an error in the backward pass.
    """
    return feedback_of(weight, drawn, rule, like) * scale


@feedback_tensor.register_fake
def _(weight: Tensor, drawn: Tensor | None, rule: str, scale: float, like: Tensor) -> Tensor:
    return feedback_of(weight, drawn, rule, like) * scale


def surrogate(
    function: Callable[[bool, Tensor], Tensor],
    weight: Tensor,
    feedback: Tensor | None,
    rule: str,
    scale: float,
) -> Tensor:
    """Evaluate ``function`` with the forward of the weight and the backward of its rule.

    Args:
        function: called as ``function(detach, weight)``: with ``detach`` true the activations
            must be detached. Linear in the activations.
        weight: the forward weight.
        feedback: the drawn part of B, or ``None``.
        rule: spec string of the rule.
        scale: constant factor of B.
    """
    exact = function(True, weight)
    if not passes_error(rule):
        return exact
    matrix = feedback_tensor(weight.detach(), feedback, rule, scale, exact.detach())
    carrier = function(False, matrix)
    return exact + (carrier - carrier.detach())
