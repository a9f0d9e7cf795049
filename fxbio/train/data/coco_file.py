"""Reading a COCO annotation file, and saying what is wrong with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxbio.errors import DataError, Location
from fxbio.files.reading import read_json
from fxbio.train.data.annotations import CocoAnnotations
from fxbio.train.data.coco_values import (
    category_labels,
    checked_id,
    id_array,
    image_sizes,
    whole,
)
from fxbio.train.data.packed import PackedStrings
from fxbio.train.data.paths import some

__all__ = ["read_coco"]

_FARTHEST = 1e30
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
    images = dict(sorted(_by_id(data, "images", path, checked_id).items(), key=_rank))
    categories = _by_id(data, "categories", path, whole)
    names = {id_: str(item["name"]) for id_, item in categories.items()}
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
    labels = category_labels(names)
    annotations = CocoAnnotations(
        files=_files(images.values(), path),
        image_ids=id_array(list(images)),
        sizes=_sizes(images.values(), path),
        category_ids=tuple(labels),
        category_labels=tuple(labels.values()),
        first=np.searchsorted(numbers[order], np.arange(len(images) + 1)),
        boxes=boxes.boxes[kept][order],
        labels=_labels(boxes.category_ids[kept][order], labels),
        crowd=boxes.crowd[kept][order],
        areas=boxes.areas[kept][order],
    )
    return annotations, names, tuple(findings)


def _rank(image: tuple[Any, object]) -> tuple[bool, Any]:
    """Ids are numbers, or strings in some files."""
    return isinstance(image[0], str), image[0]


def _files(images: Collection[dict[str, Any]], path: Path) -> PackedStrings:
    try:
        return PackedStrings(str(image["file_name"]) for image in images)
    except UnicodeEncodeError as error:
        raise DataError(f"a file_name in images of {path} is the name of no file") from error


def _sizes(images: Collection[dict[str, Any]], path: Path) -> NDArray[np.int64]:
    try:
        return image_sizes(images)
    except ValueError as error:
        raise DataError(
            f"a width or height in images of {path} is no number of pixels", notes=[str(error)]
        ) from error


def _labels(ids: NDArray[np.int64], labels: dict[int, int]) -> NDArray[np.int64]:
    known = np.array(list(labels), dtype=np.int64)  # rising
    return np.array(list(labels.values()), dtype=np.int64)[np.searchsorted(known, ids)]


class _Boxes:
    """The list ``annotations`` of a file as arrays."""

    def __init__(self, items: list[dict[str, Any]], path: Path) -> None:
        try:
            self.ids = [checked_id(item["id"]) for item in items]
            self.image_ids = [checked_id(item["image_id"]) for item in items]
            categories = [whole(item["category_id"]) for item in items]
            boxes = np.array([item["bbox"] for item in items], dtype=np.float64)
            self.boxes = boxes.reshape(len(items), 4)
            sides = self.boxes[:, 2] * self.boxes[:, 3]
            areas = [item.get("area", side) for item, side in zip(items, sides, strict=True)]
            self.areas = np.array(areas, dtype=np.float64).reshape(len(items))
            crowd = [bool(item.get("iscrowd", 0)) for item in items]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _broken_annotation(items, path, error) from error
        self.category_ids = np.array(categories, dtype=np.int64)
        self.crowd = np.array(crowd, dtype=np.bool_)

    @property
    def finite(self) -> NDArray[np.bool_]:
        """False where a number is infinite or none, or float32 has none that is near it."""
        numbers = np.column_stack([self.boxes, self.areas])
        found: NDArray[np.bool_] = np.logical_and.reduce(np.abs(numbers) < _FARTHEST, axis=1)
        return found


def _broken_annotation(items: list[Any], path: Path, cause: Exception) -> DataError:
    """Error that names a broken annotation, found the slow way."""
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            return DataError(f"annotation {number} of {path} is no mapping")
        missing = {"id", "image_id", "category_id", "bbox"} - set(item)
        if missing:
            return DataError(f"annotation {number} of {path} has no {', '.join(sorted(missing))}")
        if not isinstance(item["bbox"], list) or len(item["bbox"]) != 4:
            return DataError(f"annotation {number} of {path} has the bbox {item['bbox']}")
    return DataError(
        f"the annotations of {path} are not numbers where they should be", notes=[str(cause)]
    )


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
    """True if a path leads out of the folder that it is relative to."""
    return os.path.isabs(name) or Path(os.path.normpath(name)).parts[:1] == ("..",)


def _by_id(
    data: dict[str, Any], kind: str, path: Path, checked: Callable[[object], Any]
) -> dict[Any, dict[str, Any]]:
    name = "file_name" if kind == "images" else "name"
    found: dict[Any, dict[str, Any]] = {}
    for number, item in enumerate(data[kind]):
        if not isinstance(item, dict):
            raise DataError(f"{kind}[{number}] of {path} is no mapping")
        missing = {"id", name} - set(item)
        if missing:
            raise DataError(f"{kind}[{number}] of {path} has no {', '.join(sorted(missing))}")
        try:
            id_ = checked(item["id"])
        except ValueError as error:
            raise DataError(f"{kind}[{number}] of {path} has a wrong id: {error}") from error
        if id_ in found:
            raise DataError(f"{path}: the id {id_} occurs twice in {kind}")
        if kind == "images" and _leaves(str(item[name])):
            raise DataError(
                f"{kind}[{number}] of {path} has the file_name {item[name]!r:.200}, which leaves "
                "the folder of the images",
                help="write names relative to that folder, without '..'",
            )
        found[id_] = item
    return found
