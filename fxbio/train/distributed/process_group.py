"""The processes of a run: which one this is, and what all of them agree on."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from fxbio.errors import ConfigError
from fxbio.train.distributed.rendezvous import meet

__all__ = ["World", "join"]

PATIENCE = datetime.timedelta(minutes=30)
"""How long a process waits for the others: long enough for rank 0 to evaluate detections."""


@dataclass(frozen=True)
class World:
    """This process among all processes of the run."""

    device: torch.device
    rank: int = 0
    size: int = 1
    control: dist.ProcessGroup | None = None
    """A gloo group for flags and small objects; ``None`` in a run of one process."""
    store: Store | None = None
    """Where a process leaves word for the others, who cannot be reached by a collective then."""

    @property
    def first(self) -> bool:
        """True if this is the process that writes."""
        return self.rank == 0

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, raised if any process raises it. Collective."""
        if self.control is None:
            return flags
        tensor = torch.tensor([int(flag) for flag in flags])
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.control)
        return tuple(bool(flag) for flag in tensor.tolist())

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Each value, averaged over the processes. Collective."""
        if self.control is None:
            return values
        tensor = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(tensor, group=self.control)
        return dict(zip(values, (tensor / self.size).tolist(), strict=True))

    def collect(self, value: Any) -> list[Any]:
        """The value of every process, in the order of ranks. Collective."""
        if self.control is None:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.control)
        return found

    def share(self, value: Any) -> Any:
        """The value of the first process. Collective."""
        if self.control is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def wait(self) -> None:
        """Until every process is here."""
        self.agree(False)

    def leave_word(self, text: str) -> None:
        """Say why this process ends, before the others notice that it is gone."""
        if self.store is not None:
            with suppress(RuntimeError):  # the store may be gone before this process is
                self.store.set(str(self.rank), text)

    def last_words(self) -> list[str]:
        """Last messages of other processes before they ended."""
        if self.store is None:
            return []
        others = [rank for rank in range(self.size) if rank != self.rank]
        try:
            said = [rank for rank in others if self.store.check([str(rank)])]
            return [f"rank {rank}: {self.store.get(str(rank)).decode()}" for rank in said]
        except RuntimeError:
            return []

    @torch.no_grad()
    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the buffers of the first one: batch statistics differ by rank.

        What DDP is told to leave alone, such as fixed feedback, is the same everywhere.
        """
        if self.control is None:
            return
        same = set(getattr(model, "_ddp_params_and_buffers_to_ignore", ()))
        for name, buffer in model.named_buffers():
            if name not in same:
                dist.broadcast(buffer, src=0)


@contextmanager
def join(device: Literal["auto", "cpu", "cuda"]) -> Iterator[World]:
    """Be one of the processes that torchrun started, or the only one.

    Args:
        device: ``auto`` takes CUDA where there is any.

    Raises:
        ConfigError: when CUDA is asked for and there is none, or not enough of it.
        TrainError: when some of the processes do not come.
    """
    chosen = _device(device)
    if "RANK" not in os.environ:
        yield World(chosen)
        return
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    store = meet(store, rank, size, PATIENCE)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        group: Any = dist.new_group(backend="gloo")
        yield World(chosen, rank, size, group, PrefixStore("words", store))
    finally:
        dist.destroy_process_group()


def _device(wanted: str) -> torch.device:
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", 0))
    if number >= torch.cuda.device_count():
        raise ConfigError(
            f"process {number} of this machine has no CUDA device, there are "
            f"{torch.cuda.device_count()}",
            help="start fewer processes, or train on the CPU: train.device=cpu",
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
