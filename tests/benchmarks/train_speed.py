"""What the trainer costs beside the steps themselves, and what is sent between processes.

    python tests/benchmarks/train_speed.py --rounds 5
    python tests/benchmarks/train_speed.py --bytes

Speed: images per second of the trainer's loop, with an all-bp policy, as a ratio to a bare PyTorch
loop with the same model, optimizer, images and loader. The two take turns of some steps, so that a
drift of the machine's speed touches both; the median of the ratios within rounds is printed with
its quartiles.

Bytes: what two gloo processes hand to all-reduce in a step, by rule. Feedback is never sent, so the
rules differ in nothing.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from fxbio.models import load_reference
from fxbio.train.config import Recipe, recipe_from
from fxbio.train.data import DataSource, EpochSampler, make_loader
from fxbio.train.distributed.process_group import World, join
from fxbio.train.distributed.signals import StopFlag
from fxbio.train.engine.loop import Loop
from fxbio.train.engine.outputs import Outputs
from fxbio.train.engine.trainer_state import open_trainer
from fxbio.train.output.metrics import MetricsFile
from fxbio.train.output.progress import LineView
from fxbio.train.output.run_folder import RunFolder
from fxbio.train.state.store import CheckpointStore
from fxbio.train.tasks import TaskConfig, make_task

CLASSES = 10
RULES = ("bp", "fa", "usf", "brsf", "dfa")


class Images(Dataset[Any]):
    """Random images that are ready to be used."""

    def __init__(self, count: int, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(count, 3, size, size, generator=generator)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.images[index], index % CLASSES


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="torchvision:resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="of a turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bytes", action="store_true", help="count what is sent instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.bytes:
        print_bytes(options)
    else:
        print_speed(options)


def recipe(options: argparse.Namespace, rule: str) -> Recipe:
    """Plain SGD."""
    return recipe_from(
        {
            "model": {"reference": options.model, "args": {"num_classes": CLASSES}},
            "policy": {"rule": rule},
            "data": {"workers": 0},
            "optim": {"lr": 1e-3, "weight_decay": 1e-4, "options": {"momentum": 0.9}},
            "train": {
                "epochs": 1,
                "batch_size": options.batch,
                "device": "cpu",
                "sanity_batches": 0,
            },
        }
    )


def print_speed(options: argparse.Namespace) -> None:
    """The ratio of the trainer's speed to that of the bare loop."""
    turns = options.rounds + 1  # the first warms up
    images = Images(turns * options.steps * options.batch, options.size)
    source = DataSource(images, images, tuple("0123456789"), "classification")
    task = make_task(TaskConfig(), source)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_trainer(recipe(options, "bp"), World(torch.device("cpu")), source, task) as trainer,
    ):
        run = RunFolder(Path(folder))
        outputs = Outputs(
            run,
            LineView(trainer.schedule.steps, run.log),
            MetricsFile(run.metrics),
            CheckpointStore(run.checkpoints, 1),
        )
        loop = Loop(trainer, outputs, StopFlag())
        trainer.model.train()
        trainer = loop.steps()
        bare = bare_loop(options, source, task.collate)
        seconds: dict[str, list[float]] = {"trainer": [], "bare": []}
        for turn in range(turns):
            order = [("trainer", trainer), ("bare", bare)]
            for name, steps in order if turn % 2 else reversed(order):
                start = time.perf_counter()
                for _ in range(options.steps):
                    next(steps)
                seconds[name].append(time.perf_counter() - start)
        outputs.close()
    ratios = [b / t for b, t in zip(seconds["bare"][1:], seconds["trainer"][1:], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    rate = options.steps * options.batch / statistics.median(seconds["trainer"][1:])
    print(f"trainer {rate:.1f} img/s, {middle:.3f} of the bare loop ({low:.3f} … {high:.3f})")


def bare_loop(options: argparse.Namespace, source: DataSource, collate: Any) -> Any:
    """What one writes by hand; each ``next`` is a step."""
    arguments = {"num_classes": CLASSES}
    model: nn.Module = load_reference(options.model, arguments, seed=0).model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    sampler = EpochSampler(len(source.train), batch_size=options.batch, drop_last=True)  # type: ignore[arg-type]
    loader = make_loader(
        source.train,
        batch_size=options.batch,
        sampler=sampler,
        workers=0,
        collate=collate,
        seed=0,
    )
    for images, labels in loader:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def print_bytes(options: argparse.Namespace) -> None:
    """What is sent in a step under each rule."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    torch.multiprocessing.spawn(count_bytes, args=(options, port), nprocs=2)


def count_bytes(rank: int, options: argparse.Namespace, port: int) -> None:
    """Of one process; the first one prints."""
    torch.set_num_threads(1)
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    images = Images(8 * options.batch, options.size)
    source = DataSource(images, images, tuple("0123456789"), "classification")
    with join("cpu") as world:
        for rule in RULES:
            sent = bytes_of_a_step(recipe(options, rule), world, source)
            if world.first:
                print(f"{rule:5} {sent:,} bytes")


def bytes_of_a_step(recipe: Recipe, world: World, source: DataSource) -> int:
    """Bytes in all collective calls of the third step."""
    task = make_task(TaskConfig(), source)
    with open_trainer(recipe, world, source, task) as trainer:
        trainer.model.train()
        steps = Loop(trainer, Outputs(), StopFlag()).steps()
        for _ in range(2):
            next(steps)
        with torch.profiler.profile(record_shapes=True) as profiler:
            next(steps)
    dist.barrier()
    return sum(bytes_of(event) for event in profiler.events() or () if "gloo:" in event.name)


def bytes_of(event: Any) -> int:
    """Of a collective call: floats, but for the flags of the control group."""
    return sum(4 * torch.Size(shape).numel() for shape in event.input_shapes if shape)


if __name__ == "__main__":
    main()
