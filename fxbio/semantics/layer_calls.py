"""The calls that apply a layer's weight, where an error is routed around what comes next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fxbio.ops import functional

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
_LOWERED: frozenset[Any] = frozenset(
    getattr(functional, name)
    for name in ("linear", "conv", "conv_transpose", "matmul", "addmm", "einsum")
)
_RULED = ("linear", "convolution", "matmul", "addmm", "einsum")


def _is_parameter(value: Any) -> bool:
    return isinstance(value, nn.Parameter)


def applies_layer(
    func: Any, args: Sequence[Any], is_parameter: Callable[[Any], bool] = _is_parameter
) -> bool:
    """Whether a call, as a ``TorchFunctionMode`` is shown it, applies a weight to an activation.

    Scales of normalisation layers do not count.
    """
    if func in _LAYERS:
        return True
    if func in _LOWERED:
        return True
    if isinstance(func, torch._ops.OpOverload):
        return func.namespace == "fxbio" and func._schema.name.split("::")[1] in _RULED
    return func in _PRODUCTS and any(map(is_parameter, args))
