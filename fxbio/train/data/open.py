"""From the ``data`` section of a recipe to an opened data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fxbio.errors import DataError
from fxbio.train.data.arrays import (
    open_cifar10,
    open_cifar100,
    open_digits,
    open_mnist,
    open_mnist5k,
)
from fxbio.train.data.base import DataConfig, DataSource
from fxbio.train.data.coco import open_coco
from fxbio.train.data.folder import open_folder
from fxbio.train.data.make_shapes import make_shapes
from fxbio.train.data.make_shapes_coco import make_shapes_coco
from fxbio.train.data.transforms import IMAGENET

__all__ = ["DATA_SETS", "open_data"]

_SHAPES = replace(IMAGENET, size=64, augment="flip")
"""A random part of an image may miss the one shape in it."""


def open_data(config: DataConfig, seed: int = 0) -> DataSource:
    """Open a data set and check it.

    Args:
        config: which, and how it is prepared.
        seed: of what is split at random.

    Raises:
        DataError: when it is not there, or is broken in a way that cannot be worked around.
    """
    return DATA_SETS[config.name](config, seed)


def _shapes(config: DataConfig, seed: int) -> DataSource:
    made = _generate(config, make_shapes)
    return _with_findings(made, open_folder(config, _SHAPES))


def _shapes_coco(config: DataConfig, seed: int) -> DataSource:
    made = _generate(config, make_shapes_coco)
    return _with_findings(made, open_coco(config))


def _generate(config: DataConfig, make: Callable[[Path], None]) -> tuple[str, ...]:
    """Write the data set when it is not there, and say so; the processes of a run may all try."""
    if config.path is None or config.path.exists():
        return ()
    try:
        make(config.path)
    except DataError:
        if not config.path.exists():
            raise
    return (f"there was nothing in {config.path}, so it was generated there",)


def _with_findings(more: tuple[str, ...], source: DataSource) -> DataSource:
    return replace(source, findings=(*more, *source.findings))


DATA_SETS: dict[str, Callable[[DataConfig, int], DataSource]] = {
    "folder": lambda config, seed: open_folder(config),
    "coco": lambda config, seed: open_coco(config),
    "cifar10": open_cifar10,
    "cifar100": open_cifar100,
    "mnist": open_mnist,
    "mnist5k": open_mnist5k,
    "digits": open_digits,
    "shapes": _shapes,
    "shapes-coco": _shapes_coco,
}
"""How each kind of data set is opened."""
