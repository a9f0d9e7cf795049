"""Strides, dilations and paddings in the one form that the ``fxbio::convolution`` op takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

__all__ = ["Ints", "for_each_dim", "with_padding"]

Ints = int | Sequence[int]


def for_each_dim(value: Ints, spatial: int) -> list[int]:
    """One number for each of the spatial dimensions."""
    if isinstance(value, int):
        return [value] * spatial
    values = list(value)
    return values * spatial if len(values) == 1 else values


def with_padding(
    x: Tensor, weight: Tensor, padding: Ints | str, dilation: list[int]
) -> tuple[Tensor, list[int]]:
    """``same`` as ATen computes it: of an odd total the extra zero goes behind, explicitly.

    Returns:
        The input, and what the convolution itself is to pad on both sides.
    """
    if not isinstance(padding, str):
        return x, for_each_dim(padding, len(dilation))
    if padding == "valid":
        return x, [0] * len(dilation)
    totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    extra = [total % 2 for total in totals]
    if any(extra):
        x = F.pad(x, [side for e in reversed(extra) for side in (0, e)])
    return x, [total // 2 for total in totals]
