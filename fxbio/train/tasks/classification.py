"""Classification: cross-entropy, label smoothing, mixup and cutmix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate
from torchvision.transforms import v2

from fxbio.errors import ModelError
from fxbio.train.data.data_kind import DataSource
from fxbio.train.tasks.task import TaskConfig
from fxbio.train.tasks.top_k import TopK

__all__ = ["Classification"]

Batch = tuple[Tensor, Tensor]
_EXAMPLES = 2
"""Batch norm over 1x1 maps needs more than one image."""


@dataclass(frozen=True)
class Classification:
    """Images (N, C, H, W) with labels (N,), or shares of each class (N, classes)."""

    config: TaskConfig
    classes: int
    name: str = "classification"
    metric: str = "top1"

    def example_inputs(self, source: DataSource) -> Tensor:
        """The first images of the validation set."""
        return torch.stack([source.val[k][0] for k in range(min(_EXAMPLES, _length(source)))])

    def collate(self, samples: list[Any]) -> Batch:
        """A training batch, mixed if the recipe says so."""
        images, labels = self.collate_eval(samples)
        mixers = [
            mixer(alpha=float(alpha), num_classes=self.classes)
            for mixer, alpha in ((v2.MixUp, self.config.mixup), (v2.CutMix, self.config.cutmix))
            if alpha
        ]
        if not mixers:
            return images, labels
        images, labels = v2.RandomChoice(mixers)(images, labels)
        return images, labels

    def collate_eval(self, samples: list[Any]) -> Batch:
        """A validation batch."""
        images, labels = default_collate(samples)
        return images, labels

    def move(
        self,
        batch: Batch,
        device: torch.device,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> Batch:
        """The batch on a device."""
        images, labels = batch
        moved = images.to(device, non_blocking=True, memory_format=memory_format)
        return moved, labels.to(device, non_blocking=True)

    def size(self, batch: Batch) -> int:
        """Number of samples of a batch."""
        return len(batch[0])

    def loss(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The mean cross-entropy.

        Raises:
            ModelError: when the model gives something else than logits for the classes.
        """
        images, targets = batch
        logits = self._logits(model(images))
        smoothing = self.config.label_smoothing
        return {"loss": F.cross_entropy(logits, targets, label_smoothing=smoothing)}

    def check_output(self, output: Any) -> None:
        """Refuse what are no logits for the classes.

        Raises:
            ModelError: as ``loss``.
        """
        self._logits(output)

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """The logits of a batch."""
        return self._logits(model(batch[0]))

    def new_evaluator(self, source: DataSource, *, partial: bool = False) -> TopK:
        """A fresh evaluator."""
        return TopK(self.classes, None if partial else _length(source))

    def _logits(self, output: Any) -> Tensor:
        logits = getattr(output, "logits", output) if not isinstance(output, tuple) else output
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(output)
            raise ModelError(
                f"a classifier gives logits of shape (N, {self.classes}), the model gives {what}",
                help="switch auxiliary outputs off, for instance with model.args.aux_logits=false",
            )
        mixes = self.config.mixup or self.config.cutmix
        if logits.shape[1] < self.classes or (mixes and logits.shape[1] != self.classes):
            raise ModelError(
                f"the data has {self.classes} classes, the model gives {logits.shape[1]} logits",
                help=f"build it for them, for instance with model.args.num_classes={self.classes}",
            )
        return logits


def _length(source: DataSource) -> int:
    return len(source.val)  # type: ignore[arg-type]  # a map-style data set has a length
