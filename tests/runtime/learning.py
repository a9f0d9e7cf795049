"""A small network whose rules learn feedback, for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import fxbio

__all__ = ["OPTIONS", "batch", "feedback_of", "loss_of", "network", "train", "transformed"]

OPTIONS: dict[str, dict[str, Any]] = {
    "aa": {"share": 1.0, "alpha": 0.05, "beta": 0.1},
    "fbp": {"refresh_every": 2, "fraction": 0.4},
    "ia": {"share": 1.0, "alpha": 0.1, "beta": 0.05, "gamma": 0.05},
    "kp": {},
    "pfa": {"ratio": 2},
    "pfa-o": {},
    "sa": {"alpha": 0.05, "beta": 0.1},
    "wm": {"alpha": 0.05, "beta": 0.1, "samples": 3},
}
"""The rules whose feedback has a history, with options under which that shows in a few steps."""


class Shared(nn.Module):
    """One layer, applied twice."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layer = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(torch.tanh(self.layer(x)))
        return result


def network() -> nn.Sequential:
    """The same at each call: a convolution, a layer that is used twice, a last layer."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), Shared(16), nn.Tanh(), nn.Linear(16, 3)
        )


def batch(number: int = 0, size: int = 8) -> Tensor:
    """A batch of inputs."""
    return torch.randn(size, 3, 4, 4, generator=torch.Generator().manual_seed(number))


def transformed(rule: str, **options: Any) -> nn.Module:
    """The network under one rule."""
    policy = fxbio.Policy.uniform(rule, **{**OPTIONS.get(rule, {}), **options})
    return fxbio.transform(network(), policy, (batch(),))


def loss_of(output: Tensor) -> Tensor:
    """A mean over the batch."""
    return (output - 0.3).square().mean()


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, first: int = 0, steps: int = 1
) -> None:
    """Steps on batches of successive numbers."""
    for number in range(first, first + steps):
        optimizer.zero_grad()
        loss_of(model(batch(number))).backward()
        optimizer.step()


def feedback_of(model: nn.Module) -> dict[str, Tensor]:
    """All feedback parameters and buffers, copied."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: value.detach().clone() for name, value in named if "fxbio" in name}
