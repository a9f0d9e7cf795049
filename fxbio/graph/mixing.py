"""Weights that are applied by other operations than products of matrices.

An elementwise product of an activation with a weight is a *scale* as long as every entry of the
result comes from one entry of the activation: LayerScale, gains, gates, positions. Where it is
summed, or Fourier transformed, along a dimension along which the weight varies, the weight *mixes*
entries, and carries their errors back just as the matrix of a layer does. So do distances and dot
products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fxbio.tensors.operands import shape_of

__all__ = ["MIXING", "PRODUCTS", "keeps_entries", "mixed_dims", "varying_dims"]

aten = torch.ops.aten

MIXING = {aten.dot, aten.vdot, aten._cdist_forward, aten._euclidean_dist}
"""Operations of two tensors that multiply entries and sum."""

PRODUCTS = {aten.mul, aten.div, aten.mul_, aten.div_, aten.addcmul, aten.addcdiv}
"""Elementwise products."""

_KEEPING = {aten.clone, aten._to_copy, aten.neg, aten.alias, aten.detach, *PRODUCTS}
_SUMS = {aten.sum, aten.mean, aten.nansum, aten.cumsum, aten.logcumsumexp}
_TRANSFORMS = {aten._fft_r2c, aten._fft_c2c, aten._fft_c2r}


def varying_dims(weight: Tensor, out: Tensor) -> frozenset[int]:
    """The dimensions of a product, counted from the last, along which the weight varies."""
    sizes = zip(range(-1, -weight.dim() - 1, -1), reversed(shape_of(weight)), strict=True)
    return frozenset(dim for dim, size in sizes if size > 1 and -dim <= out.dim())


def keeps_entries(func: Any, tensor: Tensor, out: Tensor) -> bool:
    """True if an operation leaves the entries of a tensor in their places, scaled or not."""
    return func.overloadpacket in _KEEPING and shape_of(tensor) == shape_of(out)


def mixed_dims(func: Any, args: Any, tensor: Tensor) -> frozenset[int]:
    """The dimensions of a tensor, counted from the last, that an operation sums over."""
    if func.overloadpacket not in _SUMS | _TRANSFORMS:
        return frozenset()
    given = args[1] if len(args) > 1 else None
    dims = [given] if isinstance(given, int) else list(given or range(tensor.dim()))
    return frozenset(dim if dim < 0 else dim - tensor.dim() for dim in dims)
