"""Reading a COCO annotation file, and saying what is wrong with it."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxbio.errors import DataError, Location
from fxbio.reading import read_json
from fxbio.train.data.annotations import CocoAnnotations
from fxbio.train.data.packed import PackedStrings
from fxbio.train.data.paths import some

__all__ = ["read_coco"]

_LONGEST_LINE = 200
"""Annotation files are mostly one line, too long to be shown."""


def read_coco(path: Path) -> tuple[CocoAnnotations, dict[int, str], tuple[str, ...]]:
    """The annotations of a file, the names of its categories by id, and findings.

    Boxes of unknown images or categories are left out. Ids are replaced by positions, so that no
    id has a meaning: pycocotools takes an annotation with id 0 for none at all. Images are in the
    order of their ids, which decides in pycocotools between equal scores.

    Raises:
        DataError: when the file cannot be understood.
    """
    data = _load(path)
    images = dict(sorted(_by_id(data, "images", path).items(), key=_rank))
    names = {int(id_): str(item["name"]) for id_, item in _by_id(data, "categories", path).items()}
    if not names or min(names) < 0:
        raise DataError(f"{path} needs categories with ids of 0 and above", notes=[some(names)])
    position = {id_: number for number, id_ in enumerate(images)}
    boxes = _Boxes(data["annotations"], path)
    known_image = np.array([id_ in position for id_ in boxes.image_ids], dtype=np.bool_)
    known_category = np.isin(boxes.category_ids, list(names))
    kept = known_image & known_category & boxes.finite
    findings = _findings(boxes, known_image, known_category)
    numbers = np.array([position.get(id_, -1) for id_ in boxes.image_ids], dtype=np.int64)[kept]
    order = np.argsort(numbers, kind="stable")
    shift = int(0 in names)
    annotations = CocoAnnotations(
        files=PackedStrings(str(item["file_name"]) for item in images.values()),
        image_ids=np.array(list(images)),
        sizes=_sizes(images.values(), path),
        category_ids=tuple(sorted(names)),
        shift=shift,
        first=np.searchsorted(numbers[order], np.arange(len(images) + 1)),
        boxes=boxes.boxes[kept][order],
        labels=boxes.category_ids[kept][order] + shift,
        crowd=boxes.crowd[kept][order],
        areas=boxes.areas[kept][order],
    )
    return annotations, names, tuple(findings)


def _rank(image: tuple[Any, object]) -> tuple[bool, Any]:
    """Ids are numbers, or strings in some files."""
    return isinstance(image[0], str), image[0]


def _sizes(images: Collection[dict[str, Any]], path: Path) -> NDArray[np.int64]:
    sizes = [(image.get("width") or 0, image.get("height") or 0) for image in images]
    try:
        return np.array(sizes, dtype=np.int64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise DataError(f"a width or height in images of {path} is no number") from error


class _Boxes:
    """The list ``annotations`` of a file as arrays."""

    def __init__(self, items: list[dict[str, Any]], path: Path) -> None:
        try:
            self.ids = [item["id"] for item in items]
            self.image_ids = [item["image_id"] for item in items]
            self.category_ids = np.array([item["category_id"] for item in items], dtype=np.int64)
            boxes = np.array([item["bbox"] for item in items], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise _broken_annotation(items, path) from error
        self.boxes = boxes.reshape(-1, 4)
        crowd = [bool(item.get("iscrowd", 0)) for item in items]
        self.crowd = np.array(crowd, dtype=np.bool_)
        sides = self.boxes[:, 2] * self.boxes[:, 3]
        areas = [item.get("area", side) for item, side in zip(items, sides, strict=True)]
        self.areas = np.array(areas, dtype=np.float64)

    @property
    def finite(self) -> NDArray[np.bool_]:
        """False where a number is infinite, or none."""
        found: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(self.boxes), axis=1)
        return found


def _broken_annotation(items: list[Any], path: Path) -> DataError:
    """Which annotation it is, found the slow way."""
    for number, item in enumerate(items):
        missing = {"id", "image_id", "category_id", "bbox"} - set(item)
        if missing:
            return DataError(f"annotation {number} of {path} has no {', '.join(sorted(missing))}")
        if len(item["bbox"]) != 4:
            return DataError(f"annotation {number} of {path} has the bbox {item['bbox']}")
    return DataError(f"the annotations of {path} are not numbers where they should be")


def _findings(
    boxes: _Boxes, known_image: NDArray[np.bool_], known_category: NDArray[np.bool_]
) -> Iterator[str]:
    repeated = len(boxes.ids) - len(set(boxes.ids))
    if repeated:
        yield f"{repeated:,} annotation ids occur twice; ids are replaced"
    if 0 in boxes.ids:
        yield "an annotation has the id 0, which pycocotools takes for none; ids are replaced"
    for known, kind, ids in (
        (known_image, "image", boxes.image_ids),
        (known_category, "category", boxes.category_ids),
    ):
        unknown = sorted({str(ids[k]) for k in np.flatnonzero(~known)})
        if unknown:
            count = int((~known).sum())
            yield f"{count:,} boxes of unknown {kind} ids are left out: {some(unknown)}"
    infinite = [boxes.ids[k] for k in np.flatnonzero(~boxes.finite)]
    if infinite:
        yield f"{len(infinite):,} boxes that are not finite are left out: ids {some(infinite)}"
    flat = [boxes.ids[k] for k in np.flatnonzero((boxes.boxes[:, 2:] <= 0).any(axis=1))]
    if flat:
        yield f"{len(flat):,} boxes without an area: not trained on, never found: ids {some(flat)}"
    if boxes.crowd.any():
        crowds = int(boxes.crowd.sum())
        yield f"{crowds:,} crowd boxes: not trained on, and no mistake to predict in evaluation"


def _load(path: Path) -> dict[str, Any]:
    try:
        data: Any = read_json(path)
    except FileNotFoundError:
        raise DataError(
            f"there is no file {path}",
            help="say where it is: data.train_annotations=..., data.val_annotations=...",
        ) from None
    except json.JSONDecodeError as error:
        line = error.doc.splitlines()[error.lineno - 1] if error.doc else ""
        text = line if len(line) <= _LONGEST_LINE else ""
        raise DataError(
            f"{path} is not JSON: {error.msg}",
            location=Location(str(path), error.lineno, error.colno, text),
            notes=[] if error.doc.rstrip().endswith("}") else ["the file is cut off"],
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text: {error}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    lists = ("images", "annotations", "categories")
    wrong = [key for key in lists if not isinstance(data, dict) or type(data.get(key)) is not list]
    if wrong:
        raise DataError(f"{path} is no COCO file: it has no list of {', '.join(wrong)}")
    content: dict[str, Any] = data
    return content


def _leaves(name: str) -> bool:
    """Whether a path leads out of the folder that it is relative to."""
    return os.path.isabs(name) or Path(os.path.normpath(name)).parts[:1] == ("..",)


def _by_id(data: dict[str, Any], kind: str, path: Path) -> dict[Any, dict[str, Any]]:
    name = "file_name" if kind == "images" else "name"
    found: dict[Any, dict[str, Any]] = {}
    for number, item in enumerate(data[kind]):
        missing = {"id", name} - set(item)
        if missing:
            raise DataError(f"{kind}[{number}] of {path} has no {', '.join(sorted(missing))}")
        if item["id"] in found:
            raise DataError(f"{path}: the id {item['id']} occurs twice in {kind}")
        if kind == "images" and _leaves(str(item[name])):
            raise DataError(
                f"{kind}[{number}] of {path} has the file_name {item[name]!r:.200}, which leaves "
                "the folder of the images",
                help="write names relative to that folder, without '..'",
            )
        found[item["id"]] = item
    return found
