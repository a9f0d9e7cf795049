"""What one of two processes does for ``test_sharding``: many models, one after the other."""

from __future__ import annotations

import copy
import datetime
import functools
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, Optimizer

import fxbio
from tests.runtime.learning import batch, loss_of, transformed

__all__ = ["RANKS", "RULES", "WAYS", "run", "trained", "whole"]

RANKS = 2
STEPS = 3
RULES: dict[str, dict[str, Any]] = {
    "aa": {},
    "brsf": {},
    "fbp": {"refresh_every": 1},
    "ia": {},
    "kp": {},
    "pfa": {},
    "sa": {},
    "wm": {"growth": "norm"},
}


def sgd(parameters: Any) -> Optimizer:
    return SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)


def zero(model: nn.Module) -> tuple[nn.Module, Optimizer]:
    """Half of the state of the optimizer on each rank (Rajbhandari et al. 2020)."""
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    optimizer = ZeroRedundancyOptimizer(model.parameters(), SGD, **options)
    return DistributedDataParallel(model), optimizer


def sharded(model: nn.Module) -> tuple[nn.Module, Optimizer]:
    """Half of each parameter on each rank."""
    fully_shard(model)
    return model, sgd(model.parameters())


def sharded_by_layer(model: nn.Module) -> tuple[nn.Module, Optimizer]:
    """The same, where each layer is put together when it runs."""
    for layer in model.children():
        if any(True for _ in layer.parameters()):
            fully_shard(layer)
    return sharded(model)


def alone(model: nn.Module) -> tuple[nn.Module, Optimizer]:
    return model, sgd(model.parameters())


Way = Callable[[nn.Module], tuple[nn.Module, Optimizer]]
WAYS: dict[str, Way] = {way.__name__: way for way in (zero, sharded, sharded_by_layer)}


def run(rank: int, folder: str) -> None:
    """Do everything and leave the results in ``folder``."""
    torch.set_num_threads(1)
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meet",
        rank=rank,
        world_size=RANKS,
        timeout=datetime.timedelta(seconds=120),
    )
    results = {
        (name, rule): trained(rule, way, rank) for name, way in WAYS.items() for rule in RULES
    }
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@functools.cache
def under(rule: str) -> nn.Module:
    return transformed(rule, **RULES[rule])


def whole(tensor: Tensor) -> Tensor:
    """Put together from all ranks."""
    return getattr(tensor, "full_tensor", lambda: tensor)().detach().clone()


@functools.cache
def trained(rule: str, way: Way = alone, rank: int | None = None) -> dict[str, Any]:
    """What steps of two micro-batches leave: of all examples, or of the half of one rank."""
    model = copy.deepcopy(under(rule))
    wrapped, optimizer = way(model)
    for number in range(STEPS):
        optimizer.zero_grad()
        mine = batch(number) if rank is None else batch(number).chunk(RANKS)[rank]
        for last, part in enumerate(mine.chunk(2)):
            if way is sharded:  # gradients wait on each rank for the last pass
                wrapped.set_requires_gradient_sync(bool(last))  # type: ignore[operator]
            (loss_of(wrapped(part)) / 2).backward()
        optimizer.step()
    if rule == "wm":
        fxbio.mirror(model, steps=2)
    state = {name: whole(value) for name, value in model.state_dict().items()}
    return {
        "state": state,
        "counts": fxbio.redraw_counts(model),
        "feedback": fxbio.feedback_weights(model),
    }
