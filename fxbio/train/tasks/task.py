"""Interface of a task to the loop: batches, losses and an evaluation of every sample once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fxbio.train.checked import not_negative, shares, within
from fxbio.train.data.data_kind import DataSource

__all__ = ["Evaluator", "Task", "TaskConfig"]


@dataclass(frozen=True)
class TaskConfig:
    """The ``task`` section of a recipe. Which task it is follows from the data."""

    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes; classification."""

    mixup: float = 0.0
    """Parameter of the Beta distribution that mixes two images; 0 switches it off."""

    cutmix: float = 0.0
    """The same for pasting a rectangle of another image. With both, each batch draws one."""

    def __post_init__(self) -> None:
        shares(self, "label_smoothing")
        not_negative(self, "mixup", "cutmix")
        for name in ("mixup", "cutmix"):
            if getattr(self, name):  # nearer to 0 the distribution is one of zeros in float32
                within(self, 0.001, 1000, name)


class Evaluator(Protocol):
    """Collects what a model predicts; one on every rank, for one pass over the validation set."""

    def update(self, output: Any, batch: Any) -> None:
        """Take in what ``Task.predict`` gave for a batch. No communication."""

    def merge(self, group: dist.ProcessGroup | None = None) -> dict[str, float]:
        """The metrics over all ranks, equal on every rank; ``samples`` is how many were counted.

        Collective once ``torch.distributed`` is initialised; ``None`` is the default group.

        Raises:
            DataError: when samples were counted twice, or are missing though all were wanted.
        """

    def notes(self) -> tuple[str, ...]:
        """After ``merge``: what a reader of the metrics should know, one line each."""

    def predictions(self) -> list[dict[str, Any]]:
        """After ``merge``, on rank 0: what can be written to ``predictions.json``, or nothing."""


class Task(Protocol):
    """Classification or detection: all that the loop does not know. Picklable."""

    @property
    def name(self) -> str:
        """As in ``DataSource.task``."""

    @property
    def metric(self) -> str:
        """The key of ``Evaluator.merge`` that says which checkpoint is best; higher is better."""

    def example_inputs(self, source: DataSource) -> Any:
        """Example inputs for ``fxbio.transform``, from the data set."""

    def collate(self, samples: list[Any]) -> Any:
        """A training batch; what it draws comes from torch's generator, which the loader seeds."""

    def collate_eval(self, samples: list[Any]) -> Any:
        """A validation batch: nothing is drawn."""

    def move(self, batch: Any, device: torch.device, memory_format: torch.memory_format) -> Any:
        """The batch on a device."""

    def check_output(self, output: Any) -> None:
        """Refuse a model by what it gives in training mode for ``example_inputs``."""

    def size(self, batch: Any) -> int:
        """Number of samples of a batch."""

    def loss(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """``loss``, and its named parts if it has any. The model may be wrapped in DDP."""

    def predict(self, model: nn.Module, batch: Any) -> Any:
        """Predictions of a model in eval mode for a batch; for ``Evaluator.update``."""

    def new_evaluator(self, source: DataSource, *, partial: bool = False) -> Evaluator:
        """A fresh evaluator; ``partial`` allows that not all of the validation set is seen."""
