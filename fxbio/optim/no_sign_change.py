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
"""What is left of a weight that would have crossed zero, as in the authors' code."""


def no_sign_change(optimizer: Optimizer, params: Iterable[Tensor] | None = None) -> Attachment:
    """Hold every weight at its side of zero: ``W ← s · max(s · W, 1e-10)`` with ``s`` its old sign.

    A weight that is exactly zero has no sign yet and is free until it has one; the authors' code
    counts it as positive. In float16, which cannot hold 1e-10, its smallest normal number is used.

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
            held = (weight * sign).clamp_(min=smallest).mul_(sign)
            weight.copy_(torch.where(sign == 0, weight, held))
        before_step.clear()

    return Attachment(
        optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)
    )
