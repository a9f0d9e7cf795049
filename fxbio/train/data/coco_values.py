"""Values of a COCO file that anybody may have written: ids, sizes, and the labels of categories."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["category_labels", "checked_id", "id_array", "image_sizes", "whole"]

_MOST_LABELS = 1000
"""A detector has a score for each label up to the largest, of categories or not."""
_LARGEST_SIDE = 2**31


def whole(value: object) -> int:
    """A whole number of 64 bits, also where it is written as ``3.0`` or ``"3"``.

    Raises:
        ValueError: for anything else; numpy would cut ``1.7`` off.
    """
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError(f"{_shown(value)} is no whole number of 64 bits")
    return value


def checked_id(value: object) -> Any:
    """The id of an image or an annotation: a number, or a text in some files.

    Raises:
        ValueError: for anything else, and for a number that equals nothing.
    """
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{_shown(value)} is no id")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no id")
    return value


def id_array(ids: list[Any]) -> NDArray[Any]:
    """Ids as an array that gives them back as they are: numpy would turn 1 into "1" beside "a"."""
    found = np.array(ids)
    return found if found.tolist() == ids else np.array(ids, dtype=object)


def image_sizes(images: Iterable[dict[str, Any]]) -> NDArray[np.int64]:
    """(n, 2): width and height of each image, 0 where it does not say.

    Raises:
        ValueError: for what can be the side of no image.
    """
    sides = [[whole(image.get(key) or 0) for key in ("width", "height")] for image in images]
    wrong = next((side for pair in sides for side in pair if not 0 <= side < _LARGEST_SIDE), None)
    if wrong is not None:
        raise ValueError(f"{wrong} is the width or height of no image")
    return np.array(sides, dtype=np.int64).reshape(-1, 2)


def category_labels(ids: Iterable[int]) -> dict[int, int]:
    """The label of each category, above 0, which is background to a detector.

    Labels are the ids, as with the detectors that torchvision ships, or one more where there is an
    id 0. Where ids are much larger than there are categories, labels count the categories.
    """
    ids = sorted(ids)
    if ids[-1] >= max(_MOST_LABELS, 2 * len(ids)):
        return {id_: label for label, id_ in enumerate(ids, start=1)}
    return {id_: id_ + int(ids[0] == 0) for id_ in ids}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} …"
