"""A weight as matrices: what rules that multiply weights work on, whatever the operation.

``(groups, out, in)``: each group of a convolution has a matrix from its patches, channels times
taps, to its outputs; a dimension of an einsum that the weight shares with both input and result is
a dimension of groups; the scale of a normalisation layer is a 1 × 1 matrix for each channel.
"""

from __future__ import annotations

import math
from itertools import chain

from torch import Tensor

from fxbio.rules.weight_info import WeightInfo

__all__ = ["as_matrices", "from_matrices", "matrix_shape", "no_matrices"]


def as_matrices(weight: Tensor, info: WeightInfo) -> Tensor:
    """A tensor in the layout of a weight as (groups, out, in)."""
    split, axes = info.matrices.split, info.matrices.axes
    return weight.reshape(split).permute(*chain(*axes)).reshape(matrix_shape(info))


def from_matrices(matrices: Tensor, info: WeightInfo) -> Tensor:
    """(groups, out, in) in the layout of the weight."""
    split, axes = info.matrices.split, info.matrices.axes
    order = [*chain(*axes)]
    back = [order.index(axis) for axis in range(len(split))]
    return matrices.reshape([split[a] for a in order]).permute(back).reshape(info.layout)


def matrix_shape(info: WeightInfo) -> tuple[int, int, int]:
    """Number of groups, outputs and inputs."""
    split, axes = info.matrices.split, info.matrices.axes
    groups, out, inner = (math.prod(split[a] for a in part) for part in axes)
    return groups, out, inner


def no_matrices(info: WeightInfo) -> str | None:
    """Reason why a weight cannot be seen as matrices, or ``None`` when it can.

    A parameter that the operation uses a part of, or transposed, is taken as it is stored.
    """
    if len(info.layout) == len(info.shape):
        return None
    return f"'{info.name}' is reshaped from {len(info.layout)} to {len(info.shape)} dimensions"
