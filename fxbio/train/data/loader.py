"""Loaders whose random numbers do not depend on workers, and whose workers outlive a SIGTERM."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fxbio.errors import DataError
from fxbio.train.data.sample_seeds import seeded
from fxbio.train.data.sampler import Pick
from fxbio.train.data.workers import awaited, end_at_exit, ignore_signals

__all__ = ["WatchedLoader", "make_loader"]

_END = object()

Collate = Callable[[list[Any]], Any]


def make_loader(
    dataset: Dataset[Any],
    *,
    batch_size: int,
    sampler: Sampler[Pick],
    workers: int,
    collate: Collate,
    seed: int,
) -> WatchedLoader:
    """A loader of batches; iterating over it again asks the sampler again.

    Each sample is drawn with a seed of its own from ``(seed, epoch, index)``, and each batch is
    collated with one from its first sample, so batches are bitwise the same for any number of
    workers. torch's global generator is not touched. Workers ignore SIGTERM and SIGINT, which
    torchrun sends to the whole process group: it is the training process that saves and leaves.
    """
    return WatchedLoader(
        _SeededBatches(dataset, collate, seed),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=min(workers, _processors()),
        collate_fn=_as_it_is,
        worker_init_fn=ignore_signals if workers else None,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )


def _processors() -> int:
    """Number of processors for this process; more workers than that only take each other's time."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WatchedLoader(DataLoader[Any]):
    """Raises errors of workers as they were; torch would put a traceback into their message."""

    waiting_since: float | None = None
    """When this process began to wait for a batch, by ``time.monotonic``, if it does now."""

    def awaited(self) -> str:
        """Name of the worker that it waits for."""
        return awaited(self._iterator) if self._iterator is not None else "the data"

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a plain iterator will do
        batches = super().__iter__()
        if self.num_workers:
            end_at_exit(batches)
        while True:
            self.waiting_since = time.monotonic()
            batch = next(batches, _END)
            self.waiting_since = None
            if batch is _END:
                return
            if isinstance(batch, DataError):
                try:
                    raise batch
                finally:
                    del batch  # or the error would hold this frame, which would hold the error
            yield batch


class _SeededBatches(Dataset[Any]):
    """A data set that is asked for whole batches, and collates them itself."""

    def __init__(self, dataset: Dataset[Any], collate: Collate, seed: int) -> None:
        self.dataset, self.collate, self.seed = dataset, collate, seed

    def __getitems__(self, picks: Sequence[Pick]) -> Any:
        try:
            samples = [self._sample(pick) for pick in picks]
        except DataError as error:
            return error
        with seeded("batch", self.seed, *picks[0]):
            return self.collate(samples)

    def _sample(self, pick: Pick) -> Any:
        with seeded("sample", self.seed, *pick):
            return self.dataset[pick.sample]


def _as_it_is(batch: Any) -> Any:
    return batch
