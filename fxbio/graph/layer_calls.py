"""The calls that apply a layer's weight, where an error is routed around what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["applies_layer"]

_LAYERS: frozenset[Any] = frozenset(
    [
        F.linear,
        F.bilinear,
        F.multi_head_attention_forward,
        *(getattr(torch, f"conv{d}d") for d in (1, 2, 3)),
        *(getattr(torch, f"conv_transpose{d}d") for d in (1, 2, 3)),
    ]
)
_PRODUCTS: frozenset[Any] = frozenset(
    getattr(home, name)
    for name in ("matmul", "mm", "bmm", "addmm", "baddbmm")
    for home in (torch, torch.Tensor)
) | {torch.Tensor.__matmul__, torch.Tensor.__rmatmul__, torch.einsum}
"""Products, which may also be of two activations."""
_RULED = ("linear", "convolution", "matmul", "addmm", "einsum")


def applies_layer(func: Any, args: Sequence[Any]) -> bool:
    """Whether a call, as a ``TorchFunctionMode`` is shown it, applies a weight to an activation.

    Scales of normalisation layers do not count.
    """
    if func in _LAYERS:
        return True
    if isinstance(func, torch._ops.OpOverload):
        return func.namespace == "fxbio" and func._schema.name.split("::")[1] in _RULED
    return func in _PRODUCTS and any(isinstance(a, nn.Parameter) for a in args)
