"""Object detection with models that have torchvision's interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from fxbio.errors import DataError, ModelError
from fxbio.train.data.annotations import CocoAnnotations
from fxbio.train.data.data_kind import DataSource
from fxbio.train.tasks.coco_ap import METRICS, Detections, average_precision
from fxbio.train.tasks.gather import gathered, on_first_rank

__all__ = ["CocoEvaluator", "Detection"]

Target = dict[str, Tensor]
Batch = tuple[list[Tensor], list[Target]]
_EXAMPLES = 2
"""Batch norm over 1x1 maps, which SSDlite has, needs more than one image."""


@dataclass(frozen=True)
class Detection:
    """Lists of images of any size, with ``boxes`` (left, top, right, bottom) and ``labels``.

    In training the model is called with images and targets and gives a dict of losses; in
    evaluation with images, and gives ``boxes``, ``labels`` and ``scores`` for each.
    """

    name: str = "detection"
    metric: str = METRICS[0]

    def example_inputs(self, source: DataSource) -> tuple[list[Tensor], list[Target]]:
        """The first images of the training set, with their boxes.

        One box is said to be of the last class, which a model for fewer classes does not take.
        """
        samples: int = min(_EXAMPLES, len(source.train))  # type: ignore[arg-type]  # it has a length
        images, targets = self.collate([source.train[k] for k in range(samples)])
        labels = targets[0]["labels"].clone()
        labels[:1] = len(source.classes) - 1
        return images, [{**targets[0], "labels": labels}, *targets[1:]]

    def collate(self, samples: list[Any]) -> Batch:
        """A training batch."""
        return [image for image, _ in samples], [target for _, target in samples]

    def collate_eval(self, samples: list[Any]) -> Batch:
        """A validation batch."""
        return self.collate(samples)

    def move(
        self,
        batch: Batch,
        device: torch.device,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> Batch:
        """The batch on a device; the model makes its own batch, in the format it likes."""
        images, targets = batch
        moved = [image.to(device, non_blocking=True) for image in images]
        return moved, [
            {key: value.to(device, non_blocking=True) for key, value in target.items()}
            for target in targets
        ]

    def size(self, batch: Batch) -> int:
        """Number of images of a batch."""
        return len(batch[0])

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The sum of the model's own losses, and each of them.

        Raises:
            ModelError: when the model gives something else.
        """
        parts = model(*batch)
        self.check_output(parts)
        return {"loss": torch.stack([*parts.values()]).sum(), **_detached(parts)}

    def check_output(self, output: Any) -> None:
        """Refuse what are no losses.

        Raises:
            ModelError: as ``loss``.
        """
        if not isinstance(output, dict) or not output:
            raise ModelError(
                f"a detector in training gives a dict of losses, the model gives {type(output)}",
                help="detection takes the models of torchvision.models.detection, or their like",
            )

    def predict(self, model: nn.Module, batch: Batch) -> list[Target]:
        """The boxes of each image."""
        found: list[Target] = model(batch[0])
        return found

    def new_evaluator(self, source: DataSource, *, partial: bool = False) -> CocoEvaluator:
        """A fresh evaluator.

        Raises:
            DataError: when the data set has no boxes to compare with.
        """
        if source.annotations is None:
            raise DataError("detection needs a data set with boxes", help="use data.name=coco")
        return CocoEvaluator(source.annotations, partial=partial)


def _detached(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: part.detach() for name, part in parts.items()}


class CocoEvaluator:
    """Keeps predictions on every rank; the first rank evaluates those of all, once."""

    def __init__(self, truth: CocoAnnotations, *, partial: bool) -> None:
        self.truth, self.partial = truth, partial
        self._seen: list[int] = []
        self._found: list[Detections] = []
        self._notes: list[str] = []

    def update(self, output: list[Target], batch: Batch) -> None:
        """Take in the predictions for a batch."""
        for prediction, target in zip(output, batch[1], strict=True):
            image = int(target["image"])
            self._seen.append(image)
            self._found.append(_as_detections(prediction, image))

    def merge(self, group: dist.ProcessGroup | None = None) -> dict[str, float]:
        """``AP``, ``AP50``, ``AP75``, ``AP_small``, ``AP_medium``, ``AP_large``, ``samples``."""
        mine = (self._seen, Detections.joined(self._found))
        ranks = gathered(mine, group)
        seen = np.array([image for images, _ in ranks for image in images], dtype=np.int64)
        self._check(seen)
        found = Detections.joined([part for _, part in ranks])
        self._found = [self._known(found)]
        metrics = on_first_rank(lambda: average_precision(self.truth, self._found[0], seen), group)
        self._explain(metrics)
        return {**metrics, "samples": float(len(seen))}

    def notes(self) -> tuple[str, ...]:
        """Remarks on the numbers."""
        return tuple(self._notes)

    def predictions(self) -> list[dict[str, Any]]:
        """All predictions with the ids of the annotation file, as COCO's servers take them."""
        found = Detections.joined(self._found)
        ids = self.truth.image_ids[found.images].tolist()
        of_label = dict(zip(self.truth.category_labels, self.truth.category_ids, strict=True))
        categories = [of_label[label] for label in found.labels.tolist()]
        columns = (ids, categories, found.boxes.tolist(), found.scores.tolist())
        return [
            {"image_id": id_, "category_id": category, "bbox": box, "score": score}
            for id_, category, box, score in zip(*columns, strict=True)
        ]

    def _check(self, seen: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        distinct = len(np.unique(seen))
        if distinct < len(seen):
            raise DataError(f"the evaluation saw {len(seen) - distinct:,} images twice")
        if distinct < len(self.truth) and not self.partial:
            raise DataError(f"the evaluation saw {distinct:,} of {len(self.truth):,} images")

    def _known(self, found: Detections) -> Detections:
        known = np.isin(found.labels, self.truth.category_labels)
        unknown = int((~known).sum())
        if unknown:
            self._notes.append(f"{unknown:,} detections of labels that no category has are dropped")
        return found.only(known)

    def _explain(self, metrics: dict[str, float]) -> None:
        if not len(self._found[0]):
            self._notes.append("the model detected nothing, so AP is 0")
        without = [name for name in METRICS if metrics[name] < 0]
        if without:
            self._notes.append(f"no objects for {', '.join(without)}, which are -1")


def _as_detections(prediction: Target, image: int) -> Detections:
    boxes = prediction["boxes"].detach().cpu().double().numpy()
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    labels = prediction["labels"].cpu().numpy()
    scores = prediction["scores"].detach().cpu().double().numpy()
    return Detections(np.full(len(boxes), image), sizes, labels, scores)
