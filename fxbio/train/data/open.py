"""From the ``data`` section of a recipe to an opened data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fxbio.errors import DataError
from fxbio.train.data.arrays import (
    open_cifar10,
    open_cifar100,
    open_digits,
    open_mnist,
    open_mnist5k,
)
from fxbio.train.data.coco import open_coco
from fxbio.train.data.data_kind import DataConfig, DataSource
from fxbio.train.data.image_folder import open_folder
from fxbio.train.data.make_shapes import make_shapes
from fxbio.train.data.make_shapes_coco import make_shapes_coco
from fxbio.train.data.transforms import IMAGENET

__all__ = ["DATA_SETS", "open_data", "trial_data"]

_SHAPES = replace(IMAGENET, size=64, augment="flip")
"""A random part of an image may miss the one shape in it."""


_MAKE: dict[str, Callable[[Path], None]] = {
    "shapes": make_shapes,
    "shapes-coco": make_shapes_coco,
}


def open_data(config: DataConfig, seed: int = 0, *, generate: bool = True) -> DataSource:
    """Open a data set and check it.

    Args:
        config: which, and how it is prepared.
        seed: of what is split at random.
        generate: whether a generated data set that is not there is written first. Otherwise it is
            an error, as for those of other kinds.

    Raises:
        DataError: when it is not there, or is broken in a way that cannot be worked around.
    """
    if not generate or not _is_to_be_made(config):
        return DATA_SETS[config.name](config, seed)
    assert config.path is not None
    try:
        _MAKE[config.name](config.path)
    except DataError:  # the processes of a run may all try
        if not config.path.exists():
            raise
    said = f"there was nothing in {config.path}, so it was generated there"
    return _with_finding(said, DATA_SETS[config.name](config, seed))


@contextmanager
def trial_data(config: DataConfig, seed: int = 0) -> Iterator[DataSource]:
    """As ``open_data``, but what it would generate is in a folder that goes away afterwards.

    Raises:
        DataError: as ``open_data``.
    """
    if not _is_to_be_made(config):
        yield open_data(config, seed)
        return
    with TemporaryDirectory(prefix="fxbio-") as folder:
        trial = replace(config, path=Path(folder, config.name))
        assert trial.path is not None
        _MAKE[config.name](trial.path)
        said = f"there is nothing in {config.path}: a run generates it there"
        yield _with_finding(said, DATA_SETS[config.name](trial, seed))


def _is_to_be_made(config: DataConfig) -> bool:
    return config.name in _MAKE and config.path is not None and not config.path.exists()


def _with_finding(first: str, source: DataSource) -> DataSource:
    return replace(source, findings=(first, *source.findings))


DATA_SETS: dict[str, Callable[[DataConfig, int], DataSource]] = {
    "folder": lambda config, seed: open_folder(config),
    "coco": lambda config, seed: open_coco(config),
    "cifar10": open_cifar10,
    "cifar100": open_cifar100,
    "mnist": open_mnist,
    "mnist5k": open_mnist5k,
    "digits": open_digits,
    "shapes": lambda config, seed: open_folder(config, _SHAPES),
    "shapes-coco": lambda config, seed: open_coco(config),
}
"""How each kind of data set is opened."""
