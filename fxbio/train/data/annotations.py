"""Boxes of a COCO file as packed arrays, which worker processes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxbio.train.data.packed import PackedStrings

__all__ = ["CocoAnnotations"]


@dataclass(frozen=True)
class CocoAnnotations:
    """The annotations of one half. Images and boxes are numbered from 0, in this order."""

    files: PackedStrings
    """File name of each image."""

    image_ids: NDArray[Any]
    """Id of each image in the file, rising."""

    sizes: NDArray[np.int64]
    """(n, 2): width and height of each image as the file has them, 0 where it does not say."""

    category_ids: tuple[int, ...]
    """Ids of the categories in the file, rising."""

    category_labels: tuple[int, ...]
    """The label of each of them, above 0, which is background to a detector."""

    first: NDArray[np.int64]
    """Where the boxes of each image begin, and at the end how many boxes there are."""

    boxes: NDArray[np.float64]
    """(n, 4): left, top, width, height."""

    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]

    def learnable(self, found: slice = slice(None)) -> NDArray[np.bool_]:
        """Mask of boxes to train on: none of size 0, and no crowds, which stand for many."""
        wide: NDArray[np.bool_] = np.logical_and.reduce(self.boxes[found, 2:] > 0, axis=1)
        return wide & ~self.crowd[found]

    def beyond(self) -> NDArray[np.bool_]:
        """Mask of boxes that reach out of their image, as far as the file says how large that is.

        By more than a pixel, which is what rounding makes of a box.
        """
        sizes = self.sizes[self.image_of_box()]
        ends = self.boxes[:, :2] + self.boxes[:, 2:]
        out = np.logical_or.reduce((self.boxes[:, :2] < -1) | (ends > sizes + 1), axis=1)
        found: NDArray[np.bool_] = out & np.logical_and.reduce(sizes > 0, axis=1)
        return found

    def __len__(self) -> int:
        return len(self.files)

    def of_image(self, image: int) -> slice:
        """Range of the boxes of an image."""
        return slice(int(self.first[image]), int(self.first[image + 1]))

    def image_of_box(self) -> NDArray[np.int64]:
        """The image of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.first))
