"""Small nets whose errors are routed, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

import fxbio

__all__ = [
    "Convolutions",
    "Perceptron",
    "Residual",
    "gradients",
    "images",
    "labels",
    "matrix",
    "policy",
    "rows",
    "transformed",
]

CLASSES = 3


class Perceptron(nn.Module):
    """Two hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 7)
        self.last = nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (N, 3)."""
        result: Tensor = self.last(torch.tanh(self.second(torch.relu(self.first(x)))))
        return result


class Residual(nn.Module):
    """Two blocks with skip connections, activation behind the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (N, 3)."""
        h = torch.tanh(self.stem(x))
        h = torch.tanh(h + self.one(h))
        h = torch.tanh(h + self.two(h))
        result: Tensor = self.last(h)
        return result


class Convolutions(nn.Module):
    """Convolutions with normalisation, pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.two = nn.Conv2d(4, 5, 3, stride=2)
        self.last = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (N, 3)."""
        h = F.max_pool2d(F.relu(self.norm(self.one(x)), inplace=True), 2)
        h = F.relu(self.two(h))
        result: Tensor = self.last(h.mean((2, 3)))
        return result


def rows(count: int = 4) -> Tensor:
    """Inputs of a perceptron."""
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(1))


def images(count: int = 4, size: int = 10) -> Tensor:
    """Inputs of a convolutional net."""
    return torch.randn(count, 2, size, size, generator=torch.Generator().manual_seed(1))


def labels(count: int = 4) -> Tensor:
    """Classes of the inputs."""
    return torch.randint(CLASSES, (count,), generator=torch.Generator().manual_seed(2))


def policy(default: str = "dfa", *entries: dict[str, Any], **options: Any) -> fxbio.Policy:
    """One rule for all layers, or entries on top of it."""
    chosen: Any = {"rule": default, "with": options} if options else default
    content = {"version": 1, "seed": 5, "default": chosen, "rules": list(entries)}
    return fxbio.Policy.from_yaml(yaml.safe_dump(content))


def transformed(
    model: nn.Module, x: Tensor, default: str = "dfa", *entries: dict[str, Any], **options: Any
) -> Any:
    """A copy of the model under a policy."""
    return fxbio.transform(model, policy(default, *entries, **options), x)


def matrix(model: Any, unit: str, source: str = "") -> Tensor:
    """The feedback matrix of a receiver."""
    delivery = model._fxbio_binding.routes.deliveries[source, unit]
    result: Tensor = getattr(model, delivery.matrix)
    return result


def gradients(
    run: Callable[[Tensor], Tensor], model: nn.Module, x: Tensor, y: Tensor | None = None
) -> dict[str, Tensor | None]:
    """Gradients of the mean cross-entropy by every parameter."""
    model.zero_grad()
    F.cross_entropy(run(x), labels(len(x)) if y is None else y).backward()
    return {name: p.grad for name, p in model.named_parameters()}
