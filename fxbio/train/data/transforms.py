"""The presets of torchvision's reference scripts, from ``torchvision.transforms.v2``.

Everything here draws from torch's generator, which the loader seeds for each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from fxbio.errors import DataError
from fxbio.train.data.data_kind import DataConfig

__all__ = ["IMAGENET", "Look", "classification_transforms", "detection_transforms"]

Transform = Callable[[Any, Any], tuple[Any, Any]]

_AUTO: dict[str, Callable[[], list[v2.Transform]]] = {
    "none": lambda: [],
    "randaugment": lambda: [v2.RandAugment()],
    "trivialaugment": lambda: [v2.TrivialAugmentWide()],
    "autoaugment": lambda: [v2.AutoAugment()],
    "augmix": lambda: [v2.AugMix()],
}


@dataclass(frozen=True)
class Look:
    """Properties of the images of a data set."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str = "none"
    """What ``augment: auto`` means."""

    square: bool = False
    """Whether all images are squares of that size."""

    def in_channels(self, channels: int) -> Look:
        """The look of the same images in gray or in colour; one number then stands for all."""
        if channels in (0, len(self.mean)):
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        return Look(self.size, (mean,) * channels, (std,) * channels, self.augment, self.square)


IMAGENET = Look(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), augment="imagenet")
"""Mean and deviation are those of torchvision's references, which its weights are trained with."""


def classification_transforms(config: DataConfig, look: Look) -> tuple[Transform, Transform]:
    """Transforms of images for training, and for evaluation.

    Raises:
        DataError: when an option is set that only detection has.
    """
    if config.aspect_groups:
        raise DataError("data.aspect_groups does not apply to classification")
    augment = look.augment if config.augment == "auto" else config.augment
    size = config.image_size or look.size
    whole = [] if look.square and size == look.size else [v2.Resize(size), v2.CenterCrop(size)]
    resize = config.resize or (size * 8 // 7 if augment == "imagenet" else size)
    centre = [v2.Resize(resize), v2.CenterCrop(size)] if resize != size else whole
    finish = _Standardize(look.mean, look.std)
    erase = [v2.RandomErasing(config.random_erase)] if config.random_erase else []
    train = [
        *_geometry(augment, size, config.min_area, whole),
        *_AUTO[config.auto_augment](),
        finish,
        *erase,
    ]
    return _OnImage(train), _OnImage([*centre, finish])


def detection_transforms(config: DataConfig) -> tuple[Transform, Transform]:
    """The same for detection, where the model itself resizes and normalises.

    Raises:
        DataError: when an option is set that only classification has.
    """
    for option in ("image_size", "resize", "channels", "random_erase", "auto_augment"):
        if getattr(config, option) != getattr(DataConfig, option):
            raise DataError(f"data.{option} does not apply to detection")
    if config.augment in ("imagenet", "cifar"):
        raise DataError(f"data.augment={config.augment} is for classification; use flip or none")
    return _OnBoxes(flip=config.augment != "none"), _OnBoxes(flip=False)


def _geometry(
    augment: str, size: int, min_area: float, whole: list[v2.Transform]
) -> list[v2.Transform]:
    flip = v2.RandomHorizontalFlip()
    if augment == "imagenet":
        return [v2.RandomResizedCrop(size, scale=(min_area, 1.0)), flip]
    if augment == "cifar":
        return [*whole[:1], v2.RandomCrop(size, padding=size // 8), flip]
    return [*whole, flip] if augment == "flip" else whole


class _Standardize:
    """``PILToTensor``, ``ToDtype`` and ``Normalize`` in one, several times as fast.

    A PIL image becomes a tensor whose channels are innermost in memory, and that layout would be
    carried along, where every operation on single channels is slow.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        middle, spread = (torch.tensor(values)[:, None, None] for values in (mean, std))
        self.scale, self.shift = 1 / (255 * spread), -middle / spread

    def __call__(self, image: Any) -> Tensor:
        return _as_floats(image).mul_(self.scale).add_(self.shift)


def _as_floats(image: Image.Image | Tensor) -> Tensor:
    pixels = image if isinstance(image, Tensor) else v2.functional.pil_to_tensor(image)
    return pixels.to(torch.float32, memory_format=torch.contiguous_format)


class _OnImage:
    """Transforms for the image; the target stays."""

    def __init__(self, steps: Sequence[Callable[[Any], Any]]) -> None:
        self.steps = steps

    def __call__(self, image: Any, target: Any) -> tuple[Any, Any]:
        for step in self.steps:
            image = step(image)
        return image, target


class _OnBoxes:
    """To a tensor from 0 to 1, with ``boxes`` cut to the image; flipped every other time."""

    def __init__(self, *, flip: bool) -> None:
        self.flip = v2.RandomHorizontalFlip() if flip else None

    def __call__(self, image: Image.Image, target: dict[str, Tensor]) -> tuple[Any, Any]:
        canvas = (image.height, image.width)
        boxes: Any = tv_tensors.BoundingBoxes(
            target["boxes"],
            format=tv_tensors.BoundingBoxFormat.XYXY,
            canvas_size=canvas,
        )
        if self.flip is not None:
            image, boxes = self.flip(image, boxes)
        boxes = v2.functional.clamp_bounding_boxes(boxes).as_subclass(Tensor)
        kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        return _as_floats(image).div_(255), {
            "boxes": boxes[kept],
            "labels": target["labels"][kept],
            "image": target["image"],
        }
