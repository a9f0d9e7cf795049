"""A weight as matrices: what rules that multiply weights work on, whatever the operation.

``(groups, out, in)``: each group of a convolution has a matrix from its patches, channels times
taps, to its outputs; a dimension of an einsum that the weight shares with both input and result is
a dimension of groups; the scale of a normalisation layer is a 1 × 1 matrix for each channel.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import NamedTuple

from torch import Tensor

from fxbio.rules.weight_info import WeightInfo

__all__ = ["as_matrices", "from_matrices", "matrix_shape", "no_matrices"]


class _Layout(NamedTuple):
    split: tuple[int, ...]
    """Shape of the weight with its groups in a dimension of their own."""
    axes: tuple[tuple[int, ...], ...]
    """Dimensions of that shape which are groups, outputs, inputs."""


def as_matrices(weight: Tensor, info: WeightInfo) -> Tensor:
    """A tensor in the layout of a weight as (groups, out, in)."""
    split, axes = _layout(info)
    return weight.reshape(split).permute(*chain(*axes)).reshape(matrix_shape(info))


def from_matrices(matrices: Tensor, info: WeightInfo) -> Tensor:
    """(groups, out, in) in the layout of the weight."""
    split, axes = _layout(info)
    order = [*chain(*axes)]
    back = [order.index(axis) for axis in range(len(split))]
    return matrices.reshape([split[a] for a in order]).permute(back).reshape(info.layout)


def matrix_shape(info: WeightInfo) -> tuple[int, int, int]:
    """Number of groups, outputs and inputs."""
    split, axes = _layout(info)
    groups, out, inner = (math.prod(split[a] for a in part) for part in axes)
    return groups, out, inner


def no_matrices(info: WeightInfo) -> str | None:
    """Why a weight cannot be seen as matrices, or ``None`` when it can.

    A parameter that the operation uses a part of, or transposed, is taken as it is stored.
    """
    if len(info.layout) == len(info.shape):
        return None
    return f"'{info.name}' is reshaped from {len(info.layout)} to {len(info.shape)} dimensions"


def _layout(info: WeightInfo) -> _Layout:
    shape = info.layout
    if info.op == "norm":
        return _Layout(shape, (tuple(range(len(shape))), (), ()))
    if info.is_convolution:
        split = (info.groups, shape[0] // info.groups, *shape[1:])
        taps = tuple(range(3, len(split)))
        if info.op.startswith("conv_transpose"):
            return _Layout(split, ((0,), (2,), (1, *taps)))
        return _Layout(split, ((0,), (1,), (2, *taps)))
    if info.op == "linear":
        return _Layout(shape, ((), (0,), (1,)))
    out = tuple(d % len(shape) for d in info.produced)
    inner = tuple(d % len(shape) for d in info.summed)
    rest = tuple(d for d in range(len(shape)) if d not in out + inner)
    return _Layout(shape, (rest, out, inner))
