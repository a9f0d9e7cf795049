"""Data sets as the trainer needs them: their settings, and their two halves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from fxbio.train.checked import known_choices, not_negative, shares, within
from fxbio.train.data.annotations import CocoAnnotations

__all__ = ["DataConfig", "DataName", "DataSource"]

_LARGEST_SIDE = 8192
"""An image of this side takes 0.8 GB in three channels of floats, and a batch many times that."""

DataName = Literal[
    "folder",
    "coco",
    "cifar10",
    "cifar100",
    "mnist",
    "mnist5k",
    "digits",
    "shapes",
    "shapes-coco",
]


@dataclass(frozen=True)
class DataConfig:
    """The ``data`` section of a recipe. A size of 0 is the data set's own."""

    name: DataName = "folder"
    """What kind of data set it is; shapes and shapes-coco are generated at ``path`` when nothing is
    there."""

    path: Path | None = None
    """The folder on disk, relative to the recipe, or to the working directory in an argument;
    digits and mnist5k come with a package and need none."""

    train_images: str = "train2017"
    """Folder of the training images of a COCO data set, inside ``path``."""

    train_annotations: str = "annotations/instances_train2017.json"
    """Its annotation file, inside ``path``."""

    val_images: str = "val2017"
    """The same for validation."""

    val_annotations: str = "annotations/instances_val2017.json"
    """The same for validation."""

    image_size: int = 0
    """Side of the square that a classifier sees; the set's own is 224 for folders. Detection models
    resize images themselves."""

    resize: int = 0
    """Side to which the shorter edge is resized for evaluation, before the centre is cropped;
    0 is 8/7 of ``image_size`` where training crops images too, and ``image_size`` elsewhere."""

    channels: Literal[0, 1, 3] = 0
    """1 makes images gray, 3 makes them RGB."""

    augment: Literal["auto", "imagenet", "cifar", "flip", "none"] = "auto"
    """imagenet: a random part of the image, flipped or not; cifar: padded, cropped and flipped;
    flip; none. auto: imagenet for folders, cifar for CIFAR, flip for detection, else none."""

    min_area: float = 0.08
    """The smallest share of an image that the imagenet augmentation takes."""

    auto_augment: Literal["none", "randaugment", "trivialaugment", "autoaugment", "augmix"] = "none"
    """A policy of random changes of colour and geometry, with torchvision's settings."""

    aspect_groups: int = 0
    """How finely a detector's training images are grouped by shape, so that a batch needs little
    padding, as with torchvision's aspect-ratio-group-factor; 0 mixes all shapes."""

    random_erase: float = 0.0
    """Probability that a rectangle of a training image is blanked."""

    workers: int = 4
    """Processes that load images, per rank, but no more than there are processors; 0 loads in the
    training process."""

    on_bad_image: Literal["error", "skip"] = "error"
    """What an unreadable training image does: error stops; skip puts another image in its place and
    counts it. In the validation set it is always an error."""

    def __post_init__(self) -> None:
        known_choices(self)
        not_negative(self, "aspect_groups", "workers")
        within(self, 0, _LARGEST_SIDE, "image_size", "resize")
        shares(self, "min_area", "random_erase")


@dataclass(frozen=True)
class DataSource:
    """An opened data set.

    An item is ``(image, target)``: a float tensor (C, H, W), and a class index or, for detection, a
    dict of tensors with ``boxes``, ``labels`` and ``image`` (the position in the set). An index
    means the same image at every opening.
    """

    train: Dataset[Any]
    val: Dataset[Any]
    classes: tuple[str, ...]
    """Names by label. Of a detection set label 0 is the background, and unused labels are N/A."""

    task: Literal["classification", "detection"]

    findings: tuple[str, ...] = ()
    """What the checks found, one line each."""

    skipped: Callable[[], tuple[str, ...]] = tuple
    """Names of the training images that were unreadable so far, in any worker."""

    groups: NDArray[np.int64] | None = None
    """A number for each training image; steps are made of images with the same one."""

    annotations: CocoAnnotations | None = None
    """What the validation of a detector is compared with."""
