"""Reading every image once, before a training run meets the broken ones."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from fxbio.train.data.data_kind import DataSource
from fxbio.train.data.images import BadImageError
from fxbio.train.data.sets import RawSet

__all__ = ["unreadable_images"]

_SPAN = 100
"""Images that a thread takes at a time."""


def unreadable_images(source: DataSource) -> Iterator[str]:
    """One line for each image that cannot be read, of a set that ``open_data`` opened.

    With ``on_bad_image: error``, for otherwise those for training are passed over.
    """
    halves: tuple[Any, ...] = (source.train, source.val)
    with ThreadPoolExecutor() as pool:  # Pillow lets go of Python's lock while it decodes
        for half in halves:
            starts = range(0, len(half), _SPAN)
            for problems in pool.map(partial(_problems, half.raw), starts):
                yield from problems


def _problems(images: RawSet, start: int) -> list[str]:
    found = []
    for index in range(start, min(start + _SPAN, len(images))):
        try:
            images[index]
        except BadImageError as error:
            found.append(error.headline)
    return found
