"""Top-1 and top-5 accuracy, exact for any number of ranks."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from fxbio.errors import DataError
from fxbio.train.tasks.gather import gathered

__all__ = ["TopK"]

_FIVE = 5


class TopK:
    """Counts hits; nothing is divided before all ranks have been added up.

    Args:
        classes: how many; with five or fewer, five guesses are always right and not counted.
        wanted: how many samples there have to be, ``None`` if any number will do.
    """

    def __init__(self, classes: int, wanted: int | None) -> None:
        self.wanted = wanted
        self.five = classes > _FIVE
        self._hits: Tensor | None = None
        self._loss: Tensor | None = None
        self._samples = 0

    def update(self, output: Tensor, batch: tuple[Tensor, Tensor]) -> None:
        """Take in logits. Sums stay on the device, where they need no waiting for it."""
        _, targets = batch
        logits = output.detach().float()
        best = logits.topk(_FIVE if self.five else 1).indices
        right = (best == targets[:, None]).long().cumsum(1).sum(0)
        loss = F.cross_entropy(logits, targets, reduction="sum").double()
        self._hits = right if self._hits is None else self._hits + right
        self._loss = loss if self._loss is None else self._loss + loss
        self._samples += len(targets)

    def merge(self, group: dist.ProcessGroup | None = None) -> dict[str, float]:
        """``top1``, ``top5`` (shares from 0 to 1), ``loss`` (mean cross-entropy), ``samples``."""
        mine = (self._samples, *_numbers(self._hits), *_numbers(self._loss))
        ranks = [numbers for numbers in gathered(mine, group) if numbers[0]]
        totals = [sum(column) for column in zip(*ranks, strict=True)] or [0]
        samples = totals[0]
        if self.wanted not in (None, samples) or not samples:
            raise DataError(f"the evaluation saw {samples:,} samples of {self.wanted or 'any'}")
        found = {"samples": float(samples), "loss": totals[-1] / samples}
        found["top1"] = totals[1] / samples
        if self.five:
            found["top5"] = totals[_FIVE] / samples
        return found

    def notes(self) -> tuple[str, ...]:
        """Nothing to add."""
        return ()

    def predictions(self) -> list[dict[str, Any]]:
        """None are kept."""
        return []


def _numbers(value: Tensor | None) -> list[float]:
    return [] if value is None else value.flatten().tolist()
