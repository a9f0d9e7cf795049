"""What the gradients of a rule must be, by plain autograd and by the formulas as published.

Nothing here calls ``Rule.feedback`` or an op of fxbio.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = [
    "RULES",
    "SIGN_RULES",
    "draw_for",
    "gradients",
    "inputs",
    "normal",
    "published",
    "reference",
]

RULES = ("bp", "fa", "usf", "frsf", "brsf", "signed-init", "frozen", "stop")
SIGN_RULES = ("usf", "frsf", "brsf", "signed-init")

Function = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def signs(weight: Tensor) -> Tensor:
    """+1, −1, and 0 where the weight is exactly zero."""
    return (weight > 0).to(weight.dtype) - (weight < 0).to(weight.dtype)


def normal(shape: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Gaussian numbers that depend on the shape and the seed only."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(dtype)


def inputs(
    *shapes: Sequence[int] | None, dtype: torch.dtype = torch.float64
) -> list[Tensor | None]:
    """Leaf tensors with a gradient, ``None`` where the shape is ``None``."""
    return [
        None if shape is None else normal(shape, seed, dtype).requires_grad_()
        for seed, shape in enumerate(shapes)
    ]


def draw_for(rule: str, weight: Tensor) -> Tensor | None:
    """A tensor of the kind that the rule stores, drawn by torch."""
    random = normal(weight.shape, seed=9, dtype=weight.dtype)
    if rule == "fa":
        return random
    if rule in ("frsf", "brsf"):
        return random.abs()
    if rule == "signed-init":
        return signs(torch.where(weight == 0, weight, random)).detach()
    return None


def published(rule: str, weight: Tensor, drawn: Tensor | None) -> Tensor | None:
    """B without its scale, ``None`` where no error passes."""
    weight = weight.detach()
    if rule in ("bp", "frozen"):
        return weight
    if rule == "usf":
        return signs(weight)
    if rule == "stop":
        return None
    assert drawn is not None
    return drawn * signs(weight) if rule in ("frsf", "brsf") else drawn


def reference(
    function: Function, x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor | None
) -> Tensor:
    """The forward of the weight with the backward of the feedback, by plain autograd."""
    exact = function(x.detach(), weight, bias)
    if feedback is None:
        return exact
    carrier = function(x, feedback, None if bias is None else bias.detach())
    return exact + (carrier - carrier.detach())


def gradients(output: Tensor, of: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Gradients for an uneven error that depends on the shape of the output only."""
    if not output.requires_grad:
        return [None for _ in of]
    error = torch.sin(torch.arange(output.numel(), dtype=torch.float64) + 1.0)
    error = error.reshape(output.shape).to(output.dtype)
    if output.dim() in (4, 5) and not output.is_contiguous():
        error = torch.empty_like(output).copy_(error)
    wanted = [t for t in of if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(output, wanted, error, allow_unused=True))
    return [next(found) if t is not None and t.requires_grad else None for t in of]
