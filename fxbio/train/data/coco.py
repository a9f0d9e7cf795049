"""A COCO detection data set: two folders of images and two annotation files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from fxbio.errors import DataError
from fxbio.train.data.annotations import CocoAnnotations
from fxbio.train.data.batch_by_aspect import aspect_groups
from fxbio.train.data.coco_file import read_coco
from fxbio.train.data.data_kind import DataConfig, DataSource
from fxbio.train.data.images import BadImageError, read_image
from fxbio.train.data.paths import existing_folder, some
from fxbio.train.data.sets import PreparedSet, tolerant
from fxbio.train.data.transforms import detection_transforms

__all__ = ["CocoSet", "open_coco"]

_RGB = 3


@dataclass(frozen=True)
class CocoSet:
    """Images of one half; ``shown`` are those that it consists of, by their position."""

    folder: Path
    annotations: CocoAnnotations
    shown: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.shown)

    def __getitem__(self, index: int) -> tuple[Image.Image, dict[str, Tensor]]:
        number = int(self.shown[index])
        path = self.folder / self.annotations.files[number]
        width, height = self.annotations.sizes[number].tolist()
        return _as_annotated(read_image(path, _RGB), (width, height), path), self._target(number)

    def describe(self, index: int) -> str:
        """The path of the file."""
        return str(self.folder / self.annotations.files[int(self.shown[index])])

    def _target(self, number: int) -> dict[str, Tensor]:
        """Corners, not sizes; of the boxes that can be learned."""
        found = self.annotations.of_image(number)
        kept = self.annotations.learnable(found)
        boxes = self.annotations.boxes[found][kept]
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        return {
            "boxes": torch.from_numpy(corners.astype(np.float32)),
            "labels": torch.from_numpy(self.annotations.labels[found][kept]),
            "image": torch.tensor(number),
        }


def open_coco(config: DataConfig) -> DataSource:
    """Open a COCO data set and check its annotations.

    Training leaves out images without a box, as torchvision's references do; evaluation takes all.

    Raises:
        DataError: when files are missing or broken, or the halves have other categories.
    """
    root = existing_folder(config.path)
    on_train, on_val = detection_transforms(config)
    train, names, train_notes = read_coco(root / config.train_annotations)
    val, val_names, val_notes = read_coco(root / config.val_annotations)
    _check_categories(names, val_names, root)
    folders = [existing_folder(root / name) for name in (config.train_images, config.val_images)]
    findings = [
        *_describe("train", train, train_notes),
        *_describe("val", val, val_notes),
        *_renamed(train),
    ]
    missing = [_missing(folder, half) for folder, half in zip(folders, (train, val), strict=True)]
    if missing[1] or (missing[0] and config.on_bad_image == "error"):
        raise _missing_files(missing, findings)
    with_boxes = np.unique(train.image_of_box()[train.learnable()])
    if not len(with_boxes):
        raise DataError(f"no image of {root / config.train_annotations} has a box", notes=findings)
    readable, skipped = tolerant(
        CocoSet(folders[0], train, with_boxes), skip=config.on_bad_image == "skip"
    )
    return DataSource(
        train=PreparedSet(readable, on_train),
        val=PreparedSet(CocoSet(folders[1], val, np.arange(len(val))), on_val),
        classes=_classes(names, train),
        task="detection",
        findings=tuple(findings),
        skipped=skipped,
        groups=_groups(train.sizes[with_boxes], config.aspect_groups),
        annotations=val,
    )


def _as_annotated(image: Image.Image, size: tuple[int, int], path: Path) -> Image.Image:
    """The image as its boxes were drawn: turned as the EXIF data say, if it then has that size.

    COCO's own files never need it; those of some annotation tools do.

    Raises:
        BadImageError: when its size is another, so that the boxes cannot fit.
    """
    if image.size == size or 0 in size:
        return image
    turned = ImageOps.exif_transpose(image)
    if turned.size == size:
        return turned
    sizes = (f"{width} x {height}" for width, height in (image.size, size))
    raise BadImageError(
        "{} is {}, but its annotations are for {}".format(path, *sizes),
        help="give it the size that the annotation file says, or take width and height out there",
    )


def _groups(sizes: NDArray[np.int64], factor: int) -> NDArray[np.int64] | None:
    return aspect_groups(sizes, factor) if factor else None


def _check_categories(train: dict[int, str], val: dict[int, str], root: Path) -> None:
    if train == val:
        return
    differing = sorted(set(train.items()) ^ set(val.items()))
    raise DataError(
        f"the two annotation files of {root} have different categories",
        notes=[f"only in one: {some(f'{id_} {name}' for id_, name in differing)}"],
    )


def _classes(names: dict[int, str], found: CocoAnnotations) -> tuple[str, ...]:
    labels = zip(found.category_ids, found.category_labels, strict=True)
    known = {label: names[id_] for id_, label in labels}
    return ("background", *(known.get(label, "N/A") for label in range(1, max(known) + 1)))


def _renamed(found: CocoAnnotations) -> Iterator[str]:
    if found.category_ids == found.category_labels:
        return
    if found.category_labels[-1] == found.category_ids[-1] + 1:
        yield "a category has the id 0, the background of detectors: labels are the ids plus 1"
    else:
        yield (
            f"category ids go up to {found.category_ids[-1]:,}: labels count the categories, "
            "in the order of their ids"
        )


def _describe(half: str, found: CocoAnnotations, notes: tuple[str, ...]) -> Iterator[str]:
    empty = int((np.diff(found.first) == 0).sum())
    without = f", {empty:,} of them without a box" if empty else ""
    yield f"{half}: {len(found):,} images{without}, {len(found.boxes):,} boxes"
    yield from (f"{half}: {note}" for note in notes)
    yield from (f"{half}: {note}" for note in _beyond(found))


def _beyond(found: CocoAnnotations) -> Iterator[str]:
    """Boxes that cannot be right, and the most common reason of it."""
    unknown = int((found.sizes == 0).any(axis=1).sum())
    if unknown:
        yield f"{unknown:,} images without width and height: their boxes are compared with nothing"
    beyond = found.beyond()
    if not beyond.any():
        return
    images = np.unique(found.image_of_box()[beyond])
    yield (
        f"{int(beyond.sum()):,} boxes reach beyond their image: in "
        f"{some(found.files[int(image)] for image in images)}"
    )
    if (found.boxes[:, 2:] >= found.boxes[:, :2]).all():
        yield (
            "all boxes could be corners (x1, y1, x2, y2): a bbox has to be [left, top, width, "
            "height]"
        )


def _missing(folder: Path, half: CocoAnnotations) -> list[str]:
    """Listing a folder once is much quicker than asking for every file."""
    there = {path.name for path in folder.iterdir()}
    names = (half.files[number] for number in range(len(half)))
    return [
        str(folder / name)
        for name in names
        if name not in there and not os.path.exists(folder / name)  # False for names of no file
    ]


def _missing_files(missing: list[list[str]], findings: list[str]) -> DataError:
    train, val = missing
    counts = f"{len(train):,} training images and {len(val):,} validation images"
    return DataError(
        f"{counts} are missing",
        notes=[some([*train, *val]), *findings],
        help="missing training images can be passed over: data.on_bad_image=skip",
    )
