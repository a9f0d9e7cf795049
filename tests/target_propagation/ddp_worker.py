"""What one of two processes does: train inverses in steps, and learn under DDP."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fxbio.target_propagation.phase import set_phase
from fxbio.target_propagation.train_feedback import FeedbackBlock, train_feedback
from tests.target_propagation.chains import Chain, mlp

__all__ = ["RANKS", "gradients", "half", "prepared", "run"]

RANKS = 2


def run(rank: int, folder: str) -> None:
    """Do everything and leave the results in ``folder``."""
    torch.set_num_threads(1)
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    meeting = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=RANKS)
    results = {"in steps": in_steps(rank), "under DDP": under_ddp(rank)}
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def prepared(chain: Chain, x: Tensor) -> tuple[list[FeedbackBlock], list[Tensor]]:
    """A chain and its activations, as ``train_feedback`` takes them."""
    parts = zip(chain.blocks, chain.targets, strict=True)
    blocks = [FeedbackBlock(block, t, t.feedback_optimizer()) for block, t in parts]
    activations = [x]
    for block in chain.blocks:
        activations.append(block(activations[-1]).detach())
    return blocks, activations


def in_steps(rank: int) -> dict[str, Any]:
    chain = mlp("l-drl", iterations=4)
    torch.manual_seed(rank)
    losses = train_feedback(*prepared(chain, torch.randn(32, 6, dtype=torch.float64)))
    return {"losses": losses, "state": chain.state_dict()}


def half(rank: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels of one rank; of the whole batch they are every second one."""
    x = torch.linspace(-2, 2, 48, dtype=torch.float64).reshape(8, 6).sin()
    return x[rank::RANKS], (torch.arange(8) % 3)[rank::RANKS]


def under_ddp(rank: int) -> dict[str, dict[str, Tensor]]:
    """``tp``, whose inverses learn without noise: ranks can be compared with one process."""
    chain = mlp("tp")
    wrapped = DistributedDataParallel(chain, find_unused_parameters=True)
    found = {}
    for phase in ("both", "forward", "inverse"):
        set_phase(chain.targets, phase)
        found[phase] = gradients(chain, wrapped, *half(rank))
    return found


def gradients(chain: Chain, run: Any, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Of one backward pass; zero where there is none."""
    chain.zero_grad()
    F.cross_entropy(run(x), y).backward()
    parameters = chain.named_parameters()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in parameters}
