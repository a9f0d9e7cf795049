"""What one of two processes does: half of the batch."""

from __future__ import annotations

import datetime
import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tests.routes.nets import Residual, gradients, labels, rows, transformed

__all__ = ["RULES", "gradients_of", "run"]

RULES = ("dfa", "drtp", "dgl")


def run(rank: int, folder: str) -> None:
    """Leave the averaged gradients of every rule in ``folder``."""
    torch.set_num_threads(1)
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=120),
    )
    half = slice(2 * rank, 2 * rank + 2)
    results = {rule: gradients_of(rule, half, parallel=True) for rule in RULES}
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def gradients_of(rule: str, part: slice, *, parallel: bool = False) -> dict[str, Tensor | None]:
    """Of a part of the batch, or averaged over the ranks."""
    torch.manual_seed(0)
    model = transformed(Residual(), rows(), rule)
    run = DistributedDataParallel(model) if parallel else model
    return gradients(run, model, rows()[part], labels()[part])
