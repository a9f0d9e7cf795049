"""Batch Manhattan: the sign of the gradient in place of the gradient.

Liao, Leibo & Poggio 2016 (arXiv 1510.05067). The place of the sign, before weight decay and
momentum, is that of the code of Xiao et al. 2018 (arXiv 1811.03567).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from fxbio.optim.attachment import Attachment, Chosen, choose

__all__ = ["batch_manhattan"]


def batch_manhattan(optimizer: Optimizer, params: Iterable[Tensor] | None = None) -> Attachment:
    """Give an optimizer the signs of the gradients: ``g ← sign(g)``, then decay and momentum.

    For SGD a step is ``g ← sign(g) + λW; v ← μv + g; W ← W − ηv``. The gradients are changed in
    place, so after the step ``.grad`` holds the signs. Where gradients are accumulated it is the
    sign of their sum, under DDP of their mean over ranks.

    Args:
        optimizer: any but LBFGS.
        params: those whose gradients are replaced; by default all, biases too.

    Returns:
        A handle that takes it off again.

    Raises:
        FxbioError: for LBFGS, and for a parameter that the optimizer does not hold.
    """
    chosen = choose(optimizer, params, lambda parameter: True)

    def before(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # args[0] is the optimizer. A closure computes the gradients anew inside the step.
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            _take_signs(optimizer, chosen)
            return None
        return args[:1], {**kwargs, "closure": _signed(closure, optimizer, chosen)}

    return Attachment(optimizer.register_step_pre_hook(before))


def _signed(closure: Callable[[], Any], optimizer: Optimizer, chosen: Chosen) -> Callable[[], Any]:
    def signed_closure() -> Any:
        loss = closure()
        _take_signs(optimizer, chosen)
        return loss

    return signed_closure


@torch.no_grad()
def _take_signs(optimizer: Optimizer, chosen: Chosen) -> None:
    # A fused optimizer is handed gradients that are still multiplied by GradScaler's factor, and
    # divides by it in its kernel.
    factor: Tensor | None = getattr(optimizer, "grad_scale", None)
    for parameter in chosen():
        if parameter.grad is None:
            continue
        parameter.grad.sign_()
        if factor is not None:
            parameter.grad.mul_(factor.to(parameter.grad.device))
