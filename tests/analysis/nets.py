"""A perceptron and a convolutional net, under one rule."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio

__all__ = ["ConvNet", "Perceptron", "images", "rows", "under"]


class Perceptron(nn.Module):
    """Two hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(6, 8), nn.Linear(8, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (N, 3)."""
        result: Tensor = self.last(torch.tanh(self.two(torch.relu(self.one(x)))))
        return result


class ConvNet(nn.Module):
    """Two convolutions, a batch norm and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.two = nn.Conv2d(4, 5, 3, stride=2)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (N, 3)."""
        h = F.max_pool2d(F.relu(self.norm(self.one(x)), inplace=True), 2)
        h = F.relu(self.two(h))
        result: Tensor = self.last(h.mean((2, 3)))
        return result


def rows(count: int = 4) -> Tensor:
    """Inputs of a perceptron."""
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(1))


def images(count: int = 4) -> Tensor:
    """Inputs of a convolutional net."""
    return torch.randn(count, 2, 10, 10, generator=torch.Generator().manual_seed(1))


def under(model: nn.Module, x: Tensor, rule: str, entries: str = "[]") -> nn.Module:
    """A copy of a model with one rule for all layers, or entries on top of it."""
    text = f"version: 1\nseed: 3\ndefault: {rule}\nrules: {entries}\n"
    return fxbio.transform(model, fxbio.Policy.from_yaml(text), x)
