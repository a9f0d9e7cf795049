"""What one of two processes does for ``test_ddp``: train under all three constraints."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fxbio.optim import batch_manhattan, no_sign_change, strict_norm

__all__ = ["RANKS", "network", "run", "train"]

RANKS = 2


def run(rank: int, folder: str) -> None:
    """Train on this rank's part of the batch and leave the parameters in ``folder``."""
    torch.set_num_threads(1)
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS
    )
    model = network()
    # Gradients as views of the buckets: what is changed in place must not break the reduction.
    train(DistributedDataParallel(model, gradient_as_bucket_view=True), part=(rank, RANKS))
    torch.save(model.state_dict(), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def network() -> nn.Module:
    """The same on every rank."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def batch() -> tuple[Tensor, Tensor]:
    """Eight examples."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 6, generator=generator), torch.arange(8) % 3


def train(model: nn.Module, part: tuple[int, int] = (0, 1)) -> None:
    """Five steps on one of so many parts of the batch."""
    x, y = (half.chunk(part[1])[part[0]] for half in batch())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for attach in (batch_manhattan, no_sign_change, strict_norm):
        attach(optimizer)
    for _ in range(5):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
