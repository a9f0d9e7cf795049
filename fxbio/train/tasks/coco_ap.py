"""COCO average precision by pycocotools, which has to be handled with care.

It prints, crashes when nothing was predicted, takes an annotation with id 0 for none, and counts a
detection of an unknown category as if there were none.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fxbio.train.data.annotations import CocoAnnotations

__all__ = ["METRICS", "Detections", "average_precision"]

METRICS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
"""The first six numbers of COCO's summary; the primary one is first."""


@dataclass(frozen=True)
class Detections:
    """Predicted boxes as arrays of equal length, numbered like the annotations."""

    images: NDArray[np.int64]
    boxes: NDArray[np.float64]
    """(n, 4): left, top, width, height."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def joined(cls, parts: Sequence[Detections]) -> Detections:
        """All of several, in their order."""
        return cls(
            np.concatenate([np.zeros(0, np.int64), *(part.images for part in parts)]),
            np.concatenate([np.zeros((0, 4)), *(part.boxes for part in parts)]),
            np.concatenate([np.zeros(0, np.int64), *(part.labels for part in parts)]),
            np.concatenate([np.zeros(0), *(part.scores for part in parts)]),
        )

    def only(self, kept: NDArray[np.bool_]) -> Detections:
        """Those that a mask says."""
        return Detections(self.images[kept], self.boxes[kept], self.labels[kept], self.scores[kept])


def average_precision(
    truth: CocoAnnotations, found: Detections, images: NDArray[np.int64]
) -> dict[str, float]:
    """The metrics over some of the images; −1 where there is nothing to be found, as in COCO."""
    with contextlib.redirect_stdout(io.StringIO()):
        reference = _reference(truth)
        evaluation = COCOeval(reference, _detected(reference, found), "bbox")
        evaluation.params.imgIds = [int(image) + 1 for image in images]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(METRICS, map(float, evaluation.stats), strict=False))


def _reference(truth: CocoAnnotations) -> COCO:
    """The annotations as pycocotools wants them, with ids from 1."""
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": image + 1} for image in range(len(truth))],
        "categories": [{"id": label} for label in truth.category_labels],
        "annotations": [
            {
                "id": number + 1,
                "image_id": int(image) + 1,
                "category_id": int(truth.labels[number]),
                "bbox": truth.boxes[number].tolist(),
                "area": float(truth.areas[number]),
                "iscrowd": int(truth.crowd[number]),
            }
            for number, image in enumerate(truth.image_of_box())
        ],
    }
    coco.createIndex()
    return coco


def _detected(reference: COCO, found: Detections) -> COCO:
    """The detections as pycocotools wants them; ``loadRes`` cannot read a list of none."""
    if len(found):
        return reference.loadRes(_results(found))
    nothing = COCO()
    nothing.dataset = {**reference.dataset, "annotations": []}
    nothing.createIndex()
    return nothing


def _results(found: Detections) -> list[dict[str, Any]]:
    columns = (found.images, found.labels, found.boxes.tolist(), found.scores)
    return [
        {
            "image_id": int(image) + 1,
            "category_id": int(label),
            "bbox": box,
            "score": float(score),
        }
        for image, label, box, score in zip(*columns, strict=True)
    ]
