"""What one of two processes does for ``test_ddp``: many models, one after the other."""

from __future__ import annotations

import datetime
import os
import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fxbio.runtime.feedback_weights import feedback_weights
from tests.battery.harness import Subject, combinations, loss_of, subject
from tests.runtime.learning import OPTIONS, batch, feedback_of, transformed
from tests.runtime.learning import loss_of as small_loss

__all__ = ["RANKS", "distributed", "learned_feedback", "run"]

RANKS = 2
TIMEOUT = datetime.timedelta(seconds=120)


def run(rank: int, folder: str) -> None:
    """Do everything and leave the results in ``folder``."""
    torch.set_num_threads(1)
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS, timeout=TIMEOUT
    )
    results: dict[str, Any] = {
        "gradients": {key: averaged_gradients(subject(*key), rank) for key in distributed()},
        "redrawn": redrawn_feedback(rank),
        "own feedback": feedback_of_one_rank(rank),
        "unused": unused_parameters(),
        "learned": {rule: learned_feedback(rule, rank) for rule in OPTIONS},
    }
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def distributed() -> list[tuple[str, str]]:
    """What is trained on two ranks: to DDP one operation is like another."""
    kinds = ("conv2d", "conv-transpose", "shared", "functional-linear", "attention", "weight-norm")
    return [key for key in combinations() if key[1] in kinds]


def wrap(model: nn.Module, *, stops: bool = False) -> DistributedDataParallel:
    """In DDP; where a rule stops the error, parameters below get no gradient."""
    return DistributedDataParallel(model, find_unused_parameters=stops)


def averaged_gradients(combination: Subject, rank: int) -> dict[str, Tensor | None]:
    """Of the whole batch, from half of it on each rank."""
    model = combination.transformed()
    half = combination.case.example().chunk(RANKS)[rank]
    parallel = wrap(model, stops=combination.rule == "stop")
    loss_of(parallel(half)).backward()
    return {name: p.grad for name, p in model.named_parameters()}


def redrawn_feedback(rank: int) -> list[dict[str, Tensor]]:
    """Of brSF, after each of three optimizer steps."""
    combination = subject("brsf", "attention")
    model = combination.transformed()
    parallel = wrap(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    half = combination.case.example().chunk(RANKS)[rank]
    found = []
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(parallel(half)).backward()
        optimizer.step()
        found.append({name: b.clone() for name, b in feedback_weights(model).items()})
    return found


def learned_feedback(rule: str, rank: int) -> dict[str, Tensor]:
    """What three steps leave: in one process on whole batches, or on two with micro-batches."""
    model = transformed(rule)
    parallel = None if rank < 0 else wrap(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for number in range(3):
        whole = batch(number)
        optimizer.zero_grad()
        if parallel is None:
            small_loss(model(whole)).backward()
        else:
            first, second = whole.chunk(RANKS)[rank].chunk(2)
            with parallel.no_sync():
                (small_loss(parallel(first)) / 2).backward()
            (small_loss(parallel(second)) / 2).backward()
        optimizer.step()
    return feedback_of(model)


def feedback_of_one_rank(rank: int) -> Tensor:
    """Feedback that was made different on each rank, after DDP had its chance to synchronise it."""
    combination = subject("fa", "conv2d")
    model = combination.transformed()
    [buffer] = [b for name, b in model.named_buffers() if "fxbio_feedback" in name]
    buffer.fill_(float(rank + 1))
    parallel = wrap(model)
    for _ in range(2):
        loss_of(parallel(combination.case.example())).backward()
    return buffer


def unused_parameters() -> str:
    """What DDP says when a rule stops the error and it was not told to look for it."""
    combination = subject("stop", "conv2d")
    parallel = wrap(combination.transformed())
    try:
        for _ in range(2):
            loss_of(parallel(combination.case.example())).backward()
    except RuntimeError as error:
        return str(error)
    return ""
