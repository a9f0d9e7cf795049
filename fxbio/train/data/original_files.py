"""MNIST and CIFAR in the files that they were published as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from fxbio.errors import DataError
from fxbio.train.data.idx import find_idx, read_idx
from fxbio.train.data.paths import some
from fxbio.train.data.sets import ArraySet

__all__ = ["cifar", "mnist_half"]

_IMAGES = 3
"""Dimensions of the file with the images: number, height, width."""


def mnist_half(root: Path, half: str) -> ArraySet:
    """Images and labels of MNIST, or of a set that took over its files, like Fashion-MNIST.

    Args:
        root: where the files are, or where torchvision put them.
        half: train or t10k.

    Raises:
        DataError: when files are missing, damaged, or do not belong together.
    """
    names = (f"{half}-images-idx3-ubyte", f"{half}-labels-idx1-ubyte")
    paths = [find_idx(root, name) for name in names]
    missing = [name for name, path in zip(names, paths, strict=True) if path is None]
    if missing:
        raise _not_there(datasets.MNIST, root, [f"not there, nor with .gz: {some(missing)}"])
    images, labels = (read_idx(path) for path in paths if path is not None)
    if images.dim() != _IMAGES or labels.shape != images.shape[:1]:
        shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
        raise DataError(f"{paths[0]} and {paths[1]} have the shapes {shapes}, which do not fit")
    return ArraySet(images[:, None], labels.long())


def cifar(kind: Any, root: Path) -> tuple[ArraySet, ArraySet, tuple[str, ...]]:
    """Both halves of CIFAR and the names of the classes.

    Args:
        kind: the class of torchvision.
        root: where its folder is.

    Raises:
        DataError: when files are missing, or are not the original ones.
    """
    _check_cifar(kind, root)
    halves = [kind(root, train=train) for train in (True, False)]
    train, val = (
        ArraySet(torch.from_numpy(half.data).permute(0, 3, 1, 2), torch.tensor(half.targets))
        for half in halves
    )
    return train, val, tuple(halves[0].classes)


def _check_cifar(kind: Any, root: Path) -> None:
    """The files are pickles, so only the original ones are opened."""
    meta = (kind.meta["filename"], kind.meta["md5"])
    listed = [*kind.train_list, *kind.test_list, meta]
    sums = {root / kind.base_folder / name: md5 for name, md5 in listed}
    missing = [path for path in sums if not path.is_file()]
    changed = [p for p, md5 in sums.items() if p not in missing and not check_integrity(p, md5)]
    folder = f"in {kind.base_folder}"
    notes = [f"not there, {folder}: {some(path.name for path in missing)}"] if missing else []
    if missing and (root / kind.filename).is_file():
        notes.append(f"{root / kind.filename} is there, but has to be unpacked")
    if changed:
        names = some(path.name for path in changed)
        notes.append(f"damaged or changed, by their MD5 sums, {folder}: {names}")
    if notes:
        raise _not_there(kind, root, notes)


def _not_there(kind: Any, root: Path, notes: list[str]) -> DataError:
    name = kind.__name__
    return DataError(
        f"{root} does not hold {name} as it was published",
        notes=[*notes, "fxbio downloads nothing by itself"],
        help=f"in Python: torchvision.datasets.{name}('{root}', download=True)",
    )
