"""No sign change: a weight never crosses zero, so that feedback which shares its sign is constant.

From the code of Xiao et al. 2018 (arXiv 1811.03567).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from fxbio.optim.attachment import Attachment, choose, matrices

__all__ = ["no_sign_change"]

SMALLEST = 1e-10
"""What is left of a weight that would have crossed zero."""


def no_sign_change(optimizer: Optimizer, params: Iterable[Tensor] | None = None) -> Attachment:
    """Hold every weight at its side of zero: ``W ← sign(W_old) · 1e-10`` where a step crosses it.

    Landing on zero counts as crossing. A weight that is exactly zero has no sign yet and is free
    until it has one. In float16, which cannot hold 1e-10, its smallest normal number is used.

    Args:
        optimizer: any but LBFGS.
        params: those to hold; by default all with at least two dimensions, so no biases and no
            scales of normalisation layers.

    Returns:
        A handle that takes it off again.

    Raises:
        FxbioError: for LBFGS, and for a parameter that the optimizer does not hold.
    """
    chosen = choose(optimizer, params, matrices)
    before_step: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        before_step[:] = [(weight, weight.sign().to(torch.int8)) for weight in chosen()]

    @torch.no_grad()
    def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for weight, sign in before_step:
            smallest = max(SMALLEST, torch.finfo(weight.dtype).tiny)
            crossed = (weight * sign <= 0) & (sign != 0)
            weight.copy_(torch.where(crossed, sign * smallest, weight))
        before_step.clear()

    return Attachment(
        optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)
    )
