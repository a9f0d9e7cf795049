"""An image folder: ``train/<class>/*.jpg`` and ``val/<class>/*.jpg``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fxbio.errors import DataError
from fxbio.train.data.data_kind import DataConfig, DataSource
from fxbio.train.data.images import EXTENSIONS, read_image
from fxbio.train.data.packed import PackedStrings
from fxbio.train.data.paths import existing_folder, some, subfolders
from fxbio.train.data.sets import PreparedSet, tolerant
from fxbio.train.data.transforms import IMAGENET, Look, classification_transforms

__all__ = ["FolderSet", "open_folder"]

_LAYOUT = "expected: PATH/train/<class>/*.jpg and PATH/val/<class>/*.jpg"


class FolderSet:
    """The images of one half, in the order of their paths."""

    def __init__(self, root: Path, classes: tuple[str, ...], channels: int) -> None:
        self.root, self.channels = root, channels
        found = [sorted(_images(root / name)) for name in classes]
        self.per_class = tuple(len(paths) for paths in found)
        self._paths = PackedStrings(path for paths in found for path in paths)
        self._labels = np.repeat(np.arange(len(classes)), self.per_class)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return read_image(self._paths[index], self.channels), int(self._labels[index])

    def describe(self, index: int) -> str:
        """The path of the file."""
        return self._paths[index]


def open_folder(config: DataConfig, look: Look = IMAGENET) -> DataSource:
    """Open an image folder and check its halves against each other.

    Raises:
        DataError: when a half is missing, has no images, or has other classes than the other.
    """
    root = existing_folder(config.path)
    classes = _common_classes(root)
    channels = config.channels or len(look.mean)
    train, val = (FolderSet(root / half, classes, channels) for half in ("train", "val"))
    findings = [*_findings("train", train, classes), *_findings("val", val, classes)]
    on_train, on_val = classification_transforms(config, look.in_channels(channels))
    readable, skipped = tolerant(train, skip=config.on_bad_image == "skip")
    return DataSource(
        train=PreparedSet(readable, on_train),
        val=PreparedSet(val, on_val),
        classes=classes,
        task="classification",
        findings=tuple(findings),
        skipped=skipped,
    )


def _common_classes(root: Path) -> tuple[str, ...]:
    train, val = (_classes(root / half) for half in ("train", "val"))
    if train == val:
        return train
    notes = [
        f"only in {half}: {some(sorted(set(names) - set(others)))}"
        for half, names, others in (("train", train, val), ("val", val, train))
        if set(names) - set(others)
    ]
    raise DataError(
        f"{root} has {len(train)} classes in train and {len(val)} in val, and they differ",
        notes=[*notes, "classes are numbered by name, so numbers would mean different things"],
        help="give both folders the same subfolders",
    )


def _classes(folder: Path) -> tuple[str, ...]:
    names = subfolders(existing_folder(folder, layout=_LAYOUT))
    if not names:
        raise DataError(f"{folder} has no subfolders, one for each class", notes=[_LAYOUT])
    return tuple(names)


def _images(folder: Path) -> Iterator[str]:
    """Paths of images; a folder that links lead to again is entered once, so loops end."""
    entered = {_identity(folder)}
    for parent, below, names in os.walk(folder, followlinks=True):
        found = {name: _identity(Path(parent, name)) for name in sorted(below)}
        below[:] = [name for name, place in found.items() if place not in entered]
        entered |= set(found.values())
        yield from (
            os.path.join(parent, name) for name in names if name.lower().endswith(EXTENSIONS)
        )


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _findings(half: str, images: FolderSet, classes: tuple[str, ...]) -> Iterator[str]:
    if not len(images):
        raise DataError(
            f"{images.root} has no images", notes=[f"an image ends in {', '.join(EXTENSIONS)}"]
        )
    counts = images.per_class
    spread = (
        f"{min(counts):,} to {max(counts):,}" if min(counts) < max(counts) else f"{counts[0]:,}"
    )
    yield f"{half}: {len(images):,} images, {len(classes):,} classes, {spread} in each"
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if empty:
        yield f"{half}: no images for {len(empty)} of {len(classes)} classes: {some(empty)}"
