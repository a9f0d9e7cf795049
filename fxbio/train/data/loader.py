"""Loaders whose random numbers do not depend on workers, and whose workers outlive a SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fxbio.train.data.sampler import Pick
from fxbio.train.data.seeding import seeded

__all__ = ["make_loader"]

Collate = Callable[[list[Any]], Any]


def make_loader(
    dataset: Dataset[Any],
    *,
    batch_size: int,
    sampler: Sampler[Pick],
    workers: int,
    collate: Collate,
    seed: int,
) -> DataLoader[Any]:
    """A loader of batches; iterating over it again asks the sampler again.

    Each sample is drawn with a seed of its own from ``(seed, epoch, index)``, and each batch is
    collated with one from its first sample, so batches are bitwise the same for any number of
    workers. torch's global generator is not touched. Workers ignore SIGTERM and SIGINT, which
    torchrun sends to the whole process group: it is the training process that saves and leaves.
    """
    return DataLoader(
        _SeededBatches(dataset, collate, seed),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_ignore_signals if workers else None,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )


class _SeededBatches(Dataset[Any]):
    """A data set that is asked for whole batches, and collates them itself."""

    def __init__(self, dataset: Dataset[Any], collate: Collate, seed: int) -> None:
        self.dataset, self.collate, self.seed = dataset, collate, seed

    def __getitems__(self, picks: Sequence[Pick]) -> Any:
        samples = [self._sample(pick) for pick in picks]
        with seeded("batch", self.seed, *picks[0]):
            return self.collate(samples)

    def _sample(self, pick: Pick) -> Any:
        with seeded("sample", self.seed, *pick):
            return self.dataset[pick.sample]


def _as_it_is(batch: Any) -> Any:
    return batch


def _ignore_signals(worker: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
