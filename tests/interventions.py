"""What a backward pass reads of the weights, by changing them between forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["transports"]


def transports(model: nn.Module, x: Tensor, loss: Callable[[Any], Tensor]) -> dict[str, str]:
    """What reaches other gradients of each parameter that is changed when the forward is over.

    Args:
        model: in training mode, without randomness.
        x: its input.
        loss: from its output to a scalar.

    Returns:
        By the name of each matrix: ``full``, ``magnitude``, ``sign`` or ``none``. Entries are
        multiplied by positive random factors to see magnitudes move, and negated for signs.
    """
    found: dict[str, str] = {}
    unchanged = _gradients(model, x, loss, "", lambda w: w)
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2 or "fxbio" in name:
            continue
        generator = torch.Generator().manual_seed(7)
        factors = torch.rand(parameter.shape, generator=generator) * 2 + 0.5
        read = {
            kind: _moved(name, unchanged, _gradients(model, x, loss, name, change))
            for kind, change in (("magnitude", factors.mul), ("sign", torch.neg))
        }
        both = read["magnitude"] and read["sign"]
        found[name] = "full" if both else next((k for k, v in read.items() if v), "none")
    return found


def _gradients(
    model: nn.Module,
    x: Tensor,
    loss: Callable[[Any], Tensor],
    name: str,
    change: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    value = loss(model(x))
    weight = model.get_parameter(name).data if name else torch.zeros(0)
    kept = weight.clone()
    weight.copy_(change(weight))
    try:
        value.backward()
    finally:
        weight.copy_(kept)
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def _moved(name: str, before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    """Whether a gradient other than that of the weight itself and of its own feedback moved."""
    own = f"{name.rpartition('.')[0]}.fxbio"
    others = [n for n in before if n != name and not n.startswith(own)]
    return any(not torch.equal(before[n], after[n]) for n in others)
