"""What the scopes do for each operation of a forward pass does not grow with the model."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio


class RawWeights(nn.Module):
    """Many weights in one forward, each applied by a function."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.eye(2) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = torch.relu(F.linear(x, weight.t()))
        return x


class LongBlocks(nn.Module):
    """Two layers with many functions behind each."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second):
            x = layer(x)
            for _ in range(self.count):
                x = torch.tanh(x)
        return x


def chain(count: int) -> nn.Module:
    return nn.Sequential(*(part for _ in range(count) for part in (nn.Linear(2, 2), nn.ReLU())))


def lines_run(model: nn.Module, x: Tensor) -> int:
    """Lines of fxbio's own code that one forward pass runs."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        if not frame.f_globals.get("__name__", "").startswith("fxbio"):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        model(x)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    ("build", "rule"),
    [(RawWeights, "fa"), (chain, "dfa"), (chain, "dtp"), (LongBlocks, "dfa"), (LongBlocks, "dtp")],
)
def test_four_times_the_operations_take_four_times_the_work(build: Any, rule: str) -> None:
    x = torch.randn(3, 2)
    counts = []
    for size in (20, 80):
        model = fxbio.transform(build(size), fxbio.Policy.uniform(rule), (x,))
        counts.append(lines_run(model, x))
    assert counts[1] < 4.5 * counts[0]
