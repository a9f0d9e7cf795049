"""Data sets as layers: one that reads, one that passes over the unreadable, one that transforms."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fxbio.errors import DataError
from fxbio.train.data.images import BadImageError

__all__ = ["ArraySet", "PreparedSet", "RawSet", "SkippingSet", "tolerant"]


class RawSet(Protocol):
    """Samples before they are transformed: ``(image, target)``, the image PIL or a byte tensor."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, Any]: ...

    def describe(self, index: int) -> str:
        """Name of a sample in a message."""


class ArraySet:
    """Images in memory: bytes (N, C, H, W) with labels (N,)."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])

    def describe(self, index: int) -> str:
        """The position is all that is known."""
        return f"image {index}"


class SkippingSet:
    """Puts the next readable image in the place of one that is not.

    The marks are in shared memory, so that the training process knows what its workers met; an
    image that several of them met counts once.
    """

    def __init__(self, raw: RawSet) -> None:
        self.raw = raw
        self._bad = torch.zeros(len(raw), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        for candidate in chain(range(index, len(self)), range(index)):
            try:
                return self.raw[candidate]
            except BadImageError as error:
                self._bad[candidate] = 1
                reason = error.headline
        raise DataError("none of the training images can be read", notes=[reason])

    def describe(self, index: int) -> str:
        """As the set below says."""
        return self.raw.describe(index)

    def skipped(self) -> tuple[str, ...]:
        """The images that were passed over so far, in any process of this rank."""
        return tuple(self.describe(index) for index in self._bad.nonzero().flatten().tolist())


class PreparedSet(Dataset[Any]):
    """Applies ``transform(image, target)``."""

    def __init__(self, raw: RawSet, transform: Callable[[Any, Any], Any]) -> None:
        self.raw, self.transform = raw, transform

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: int) -> Any:
        return self.transform(*self.raw[index])


def tolerant(raw: RawSet, *, skip: bool) -> tuple[RawSet, Callable[[], tuple[str, ...]]]:
    """A training set that passes over the unreadable or not, and the names of what it met."""
    if not skip:
        return raw, tuple
    skipping = SkippingSet(raw)
    return skipping, skipping.skipped
