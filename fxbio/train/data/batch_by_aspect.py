"""Batches of images of like shape, which need little padding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["aspect_groups"]


def aspect_groups(sizes: NDArray[np.int64], factor: int) -> NDArray[np.int64]:
    """A number for the shape of each image, as torchvision's detection reference has them.

    Between 1:2 and 2:1 there are ``2 * factor`` groups, evenly spaced on a logarithmic scale; what
    is narrower and what is wider are two more.

    Args:
        sizes: (n, 2), width and height; where one is 0, it is unknown, and the group is -1.
        factor: at least 1.
    """
    limits = 2 ** np.linspace(-1, 1, 2 * factor + 1)
    known = (sizes > 0).all(axis=1)
    ratios = sizes[:, 0] / np.where(known, sizes[:, 1], 1)
    return np.where(known, np.searchsorted(limits, ratios, side="right"), -1)
