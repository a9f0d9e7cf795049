"""How long the compiler itself takes: against a training step, and over growing depth.

    python tests/benchmarks/compile_time.py

Prints the time of capture, plan and rewriting of ResNet-152 beside one forward and backward pass
of it, and the time of the same steps for chains of 500 to 5,000 layers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import nn

import fxbio

PIPELINE = "assign-rules,check-support,make-feedback,lower-feedback,bind-modules"
DEPTHS = (500, 1000, 2500, 5000)


def main() -> None:
    """Measure and print."""
    console = Console(width=100)
    console.print(against_a_step(torchvision.models.resnet152(weights=None)))
    console.print(over_depth())


def seconds(function: Callable[[], object], times: int = 3) -> float:
    """Median time of a call."""
    measured = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        measured.append(time.perf_counter() - start)
    return statistics.median(measured)


def against_a_step(model: nn.Module) -> Table:
    """The compiler on ResNet-152, in units of a step at two batch sizes."""
    example = torch.randn(2, 3, 224, 224)
    policy = fxbio.Policy.uniform("usf")

    def rewrite() -> None:
        fxbio.transform(model, policy, example, inplace=True, pipeline=PIPELINE)
        fxbio.revert(model)

    compiler = seconds(rewrite)
    table = Table(title="ResNet-152, 224²", box=None, title_justify="left")
    for column in ("batch", "forward and backward, s", "capture, plan, rewrite, s", "ratio"):
        table.add_column(column, justify="right")
    for batch in (2, 8):
        images = torch.randn(batch, 3, 224, 224)
        step = seconds(lambda images=images: model(images).sum().backward())
        table.add_row(str(batch), f"{step:.2f}", f"{compiler:.2f}", f"{compiler / step:.2f}")
    return table


def over_depth() -> Table:
    """The compiler on chains of layers."""
    table = Table(title="chains of nn.Linear(8, 8)", box=None, title_justify="left")
    for column in ("layers", "seconds", "µs per layer", "of the shortest"):
        table.add_column(column, justify="right")
    policy, first = fxbio.Policy.uniform("fa"), None
    for depth in DEPTHS:
        model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(depth)))
        start = time.perf_counter()
        fxbio.transform(model, policy, torch.randn(2, 8), inplace=True, pipeline=PIPELINE)
        per_layer = 1e6 * (time.perf_counter() - start) / depth
        first = first or per_layer
        cells = (depth, f"{per_layer * depth / 1e6:.2f}", f"{per_layer:.0f}")
        table.add_row(*map(str, cells), f"{per_layer / first:.2f}")
    return table


if __name__ == "__main__":
    main()
