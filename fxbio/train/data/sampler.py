"""Sampler of a rank: its samples, their order, and the resumption of that in mid-epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler

from fxbio.train.data.sample_seeds import mixed_seed

__all__ = ["EpochSampler", "EvalSampler", "Pick"]


class Pick(NamedTuple):
    """A sample of an epoch: the epoch travels with its index, so that workers can outlive it."""

    epoch: int
    sample: int


class EpochSampler(Sampler[Pick]):
    """Training order: an own permutation for each epoch, from which the ranks take turns.

    Every rank gets equally many samples, since a rank with one batch more would wait for ever. The
    position counts what was trained on, not what was loaded ahead, so the loop has to say it::

        for batch in loader:
            ...
            sampler.advance(task.size(batch))

    Args:
        size: length of the data set.
        batch_size: of one rank.
        rank: of this process.
        world: number of processes.
        seed: of the order.
        shuffle: without it the order is that of the data set.
        groups: a number for each sample; a step over all ranks then has samples with the same one,
            but for those that are left over, which come last. For shuffled orders.
        drop_last: leave out what does not fill a batch on every rank; otherwise the last batch is
            smaller, and up to ``world - 1`` samples are repeated.
    """

    def __init__(
        self,
        size: int,
        *,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        groups: NDArray[np.int64] | None = None,
    ) -> None:
        self.size, self.batch_size, self.rank, self.world = size, batch_size, rank, world
        self.seed, self.shuffle, self.drop_last = seed, shuffle, drop_last
        self.groups = groups
        self.epoch = 0
        self.position = 0
        """Samples of this epoch that all ranks together have trained on."""

    @property
    def samples(self) -> int:
        """Number of samples that one rank sees in a whole epoch."""
        if self.drop_last:
            return self.size // (self.world * self.batch_size) * self.batch_size
        return -(-self.size // self.world)

    @property
    def batches(self) -> int:
        """Batches of one rank in a whole epoch."""
        return -(-self.samples // self.batch_size)

    @property
    def steps(self) -> float:
        """Steps from the beginning to here, had all been of this size: what a schedule goes by.

        A whole number unless the size of a step has changed within this epoch.
        """
        done = self.position / (self.world * self.batch_size) if len(self) else self.batches
        return self.epoch * self.batches + done

    @property
    def steps_left(self) -> int:
        """Whole and partial batches that one rank has left in this epoch."""
        return -(-len(self) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch at its first sample."""
        self.epoch, self.position = epoch, 0

    def advance(self, count: int) -> None:
        """Say that every rank has trained on ``count`` more samples."""
        self.position += count * self.world

    def state_dict(self) -> dict[str, int]:
        """Position of training in samples: the number of ranks and their batches may change."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where ``state_dict`` was called."""
        self.epoch, self.position = state["epoch"], state["position"]

    def __iter__(self) -> Iterator[Pick]:
        """The rest of the epoch."""
        end = self.position + len(self) * self.world
        for index in self._order()[self.position + self.rank : end : self.world]:
            yield Pick(self.epoch, index)

    def __len__(self) -> int:
        """Batches that every rank has left, also where steps had another size before."""
        unit = self.batch_size if self.drop_last else 1
        return max(0, self.samples * self.world - self.position) // (self.world * unit) * unit

    def _order(self) -> list[int]:
        order = self._permutation()
        total = self.samples * self.world
        return (order * -(-total // max(1, self.size)))[:total]

    def _permutation(self) -> list[int]:
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator().manual_seed(mixed_seed("order", self.seed, self.epoch))
        order: list[int] = torch.randperm(self.size, generator=generator).tolist()
        if self.groups is None:
            return order
        return _grouped(order, self.groups.tolist(), self.batch_size * self.world)


def _grouped(order: list[int], groups: list[int], size: int) -> list[int]:
    """The order changed so that ``size`` samples of one group come together, as far as they go."""
    waiting: dict[int, list[int]] = {}
    full: list[int] = []
    for sample in order:
        batch = waiting.setdefault(groups[sample], [])
        batch.append(sample)
        if len(batch) == size:
            full += waiting.pop(groups[sample])
    return [*full, *chain.from_iterable(waiting.values())]


class EvalSampler(Sampler[Pick]):
    """Every index exactly once over all ranks; shards differ by at most one sample."""

    def __init__(self, size: int, *, rank: int = 0, world: int = 1) -> None:
        self.size, self.rank, self.world = size, rank, world

    def __iter__(self) -> Iterator[Pick]:
        return (Pick(0, index) for index in range(self.rank, self.size, self.world))

    def __len__(self) -> int:
        return len(range(self.rank, self.size, self.world))
