"""Generated image folders that can be learned: the class is the shape, all else is chance."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image

from fxbio.train.data.new_folder import new_folder
from fxbio.train.data.shapes import SHAPES, Placed, background, draw_shape

__all__ = ["make_shapes"]

_QUALITY = 90


def make_shapes(path: Path, *, images: int = 1000, size: int = 64, seed: int = 0) -> None:
    """Write an image folder of five classes.

    An image depends on the seed, the half and its number only.

    Args:
        path: a folder that does not exist yet, or is empty.
        images: for training; a quarter as many validate.
        size: of the square images in pixels.
        seed: of everything.

    Raises:
        DataError: when the folder is there already.
    """
    with new_folder(path) as folder:
        for half, count in (("train", images), ("val", max(len(SHAPES), images // 4))):
            for shape in SHAPES:
                (folder / half / shape).mkdir(parents=True)
            for number in range(count):
                shape = SHAPES[number % len(SHAPES)]
                image = _picture(random.Random(f"{seed}/{half}/{number}"), shape, size)
                image.save(folder / half / shape / f"{number:06}.jpg", quality=_QUALITY)


def _picture(rng: random.Random, shape: str, size: int) -> Image.Image:
    image = background(rng, size, size)
    radius = rng.randint(max(2, size // 8), max(2, size // 3))
    x, y = (rng.randint(radius, size - radius) for _ in range(2))
    draw_shape(rng, image, Placed(shape, x, y, radius))
    return image
