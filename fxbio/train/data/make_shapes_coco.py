"""Generated COCO data sets, with everything in them that real ones have to be read with care for.

Of 16 images two have no object, one has a crowd, and two are gray; all differ in size.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from PIL import Image

from fxbio.train.data.data_kind import DataConfig
from fxbio.train.data.new_folder import new_folder
from fxbio.train.data.shapes import SHAPES, Placed, background, draw_shape

__all__ = ["make_shapes_coco"]

_QUALITY = 90
_PERIOD = 16
_EMPTY, _CROWD, _GRAY = (3, 11), (5,), (7, 15)
"""Which images of each period are special. Crowds are few, as in COCO: their shapes are not
labelled one by one, so a detector is taught not to see them."""
_MOST_OBJECTS = 4
_TRIES = 20


def make_shapes_coco(path: Path, *, images: int = 200, size: int = 128, seed: int = 0) -> None:
    """Write a COCO detection data set of five categories.

    An image depends on the seed, the half and its number only.

    Args:
        path: a folder that does not exist yet, or is empty.
        images: for training; a quarter as many validate.
        size: of the images in pixels, about: their sides differ.
        seed: of everything.

    Raises:
        DataError: when the folder is there already.
    """
    with new_folder(path) as folder:
        halves = (
            ("train", images, DataConfig.train_images, DataConfig.train_annotations),
            ("val", max(_PERIOD, images // 4), DataConfig.val_images, DataConfig.val_annotations),
        )
        for half, count, name, annotations in halves:
            (folder / name).mkdir()
            seeds = [f"{seed}/{half}/{number}" for number in range(count)]
            content = _write_half(folder / name, [random.Random(text) for text in seeds], size)
            (folder / annotations).parent.mkdir(exist_ok=True)
            (folder / annotations).write_text(json.dumps(content))


def _write_half(folder: Path, generators: list[random.Random], size: int) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for number, rng in enumerate(generators):
        image, placed, crowd = _picture(rng, number % _PERIOD, size)
        entry = {"id": number + 1, "file_name": f"{number + 1:012}.jpg"}
        image.save(folder / str(entry["file_name"]), quality=_QUALITY)
        entries.append({**entry, "width": image.width, "height": image.height})
        for item in placed:
            boxes.append(_annotation(len(boxes) + 1, number + 1, item, crowd=item is crowd))
    return {
        "info": {"description": "generated shapes"},
        "licenses": [],
        "images": entries,
        "annotations": boxes,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(SHAPES)],
    }


def _picture(
    rng: random.Random, kind: int, size: int
) -> tuple[Image.Image, list[Placed], Placed | None]:
    """An image, what is in it, and which of that is a crowd."""
    width, height = (rng.randint(size * 3 // 4, size * 5 // 4) for _ in range(2))
    image = background(rng, width, height)
    count = 0 if kind in _EMPTY else rng.randint(1, _MOST_OBJECTS)
    placed: list[Placed] = []
    for _ in range(count):
        _place(rng, image, placed, size)
    crowd = placed[0] if kind in _CROWD else None
    for item in placed:
        _draw_crowd(rng, image, item) if item is crowd else draw_shape(rng, image, item)
    return (image.convert("L") if kind in _GRAY else image), placed, crowd


def _place(rng: random.Random, image: Image.Image, placed: list[Placed], size: int) -> None:
    """Add a shape where there is none, if a few tries find such a place."""
    for _ in range(_TRIES):
        radius = rng.randint(max(6, size // 10), max(6, size // 4))
        x, y = (rng.randint(radius, side - radius) for side in image.size)
        new = Placed(rng.choice(SHAPES), x, y, radius)
        if not any(_overlap(new, other) for other in placed):
            placed.append(new)
            return


def _overlap(one: Placed, other: Placed) -> bool:
    reach = one.radius + other.radius
    return abs(one.x - other.x) < reach and abs(one.y - other.y) < reach


def _draw_crowd(rng: random.Random, image: Image.Image, whole: Placed) -> None:
    """Four small ones in the place of one."""
    radius = whole.radius // 2
    for dx in (-radius, radius):
        for dy in (-radius, radius):
            draw_shape(rng, image, Placed(whole.shape, whole.x + dx, whole.y + dy, radius))


def _annotation(number: int, image: int, placed: Placed, *, crowd: bool) -> dict[str, Any]:
    left, top, right, bottom = placed.corners
    width, height = right - left, bottom - top
    return {
        "id": number,
        "image_id": image,
        "category_id": SHAPES.index(placed.shape) + 1,
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": int(crowd),
        "segmentation": [],
    }
