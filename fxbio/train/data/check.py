"""Reading every image once, before a training run meets the broken ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fxbio.train.data.base import DataSource
from fxbio.train.data.images import BadImageError

__all__ = ["unreadable_images"]


def unreadable_images(source: DataSource) -> Iterator[str]:
    """One line for each image that cannot be read. Opened with ``on_bad_image: error``."""
    for half in (source.train, source.val):
        yield from _unreadable(half)


def _unreadable(half: Any) -> Iterator[str]:
    for index in range(len(half)):
        try:
            half[index]
        except BadImageError as error:
            yield error.headline
