"""Small models for tests of whole transformations, and what such tests ask of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio

__all__ = [
    "BUILDERS",
    "Attention",
    "Chunked",
    "Convolutions",
    "Functional",
    "Layers",
    "build",
    "policy",
    "snapshot",
    "step",
    "train",
]


class Layers(nn.Module):
    """Three linear layers; the cheapest model with something between two rules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))
        return result


class Convolutions(nn.Module):
    """Every kind of stock layer: padded, grouped and transposed convolutions, norms, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular", bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.grouped = nn.Conv2d(4, 6, 3, groups=2, padding="same")
        self.up = nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.stem(x)))
        h = self.up(F.relu(self.grouped(h)))
        result: Tensor = self.head(self.drop(h.mean((2, 3))))
        return result


class Functional(nn.Module):
    """Weights applied by functions, one of them after arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.matrix = nn.Parameter(torch.randn(8, 8) / 3)
        self.shift = nn.Parameter(torch.randn(4))
        self.kernel = nn.Parameter(torch.randn(4, 8) / 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x) @ self.matrix)
        return F.linear(h, self.kernel, self.shift)


class Attention(nn.Module):
    """``nn.MultiheadAttention`` between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).unflatten(0, (2, -1))
        mixed, _ = self.attention(h, h, h, need_weights=False)
        result: Tensor = self.head(mixed.flatten(0, 1))
        return result


class Chunked(nn.Module):
    """q, k and v from chunks of one weight; one layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.qkv = nn.Linear(8, 24, bias=False)
        self.twice = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        q, k, v = (F.linear(h, part) for part in self.qkv.weight.chunk(3))
        h = torch.softmax(q @ k.mT, -1) @ v
        result: Tensor = self.twice(torch.tanh(self.twice(h)))
        return result


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "layers": Layers,
    "convolutions": Convolutions,
    "functional": Functional,
    "attention": Attention,
    "chunked": Chunked,
}


def build(kind: str = "layers", seed: int = 1) -> tuple[nn.Module, Tensor]:
    """A model and an input for it, the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BUILDERS[kind]()
        return model, torch.randn(4, 2, 5, 5) if kind == "convolutions" else torch.randn(4, 6)


def policy(default: str = "fa", **settings: Any) -> fxbio.Policy:
    """A policy with one rule for everything, or with more: ``rules=...`` in YAML's flow style."""
    lines = [f"{key}: {value}" for key, value in settings.items()]
    return fxbio.Policy.from_yaml("\n".join(["version: 1", f"default: {default}", *lines]))


def step(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Output and gradients of one training step, with dropout from a fixed seed."""
    model.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = model(x)
    ((output - 0.3) ** 2).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return {"output": output.detach(), **gradients}


def train(model: nn.Module, x: Tensor, steps: int) -> nn.Module:
    """A few optimizer steps."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) ** 2).sum().backward()
        optimizer.step()
    return model


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything about a model, and about the random state, that others could notice."""
    found: dict[str, Any] = {
        "random": torch.get_rng_state().tolist(),
        "python": random.getstate(),
    }
    for path, module in model.named_modules():
        found[f"{path} class"] = type(module)
        found[f"{path} mode"] = module.training
        found[f"{path} attributes"] = [k for k in vars(module) if not k.startswith("__")]
        found[f"{path} hooks"] = [
            (key, list(value))
            for key, value in vars(module).items()
            if key.endswith("hooks") and isinstance(value, dict)
        ]
    for name, parameter in model.named_parameters():
        grad = None if parameter.grad is None else parameter.grad.tolist()
        found[name] = (id(parameter), parameter.tolist(), parameter.requires_grad, grad)
    for name, buffer in model.named_buffers():
        found[name] = (id(buffer), buffer.tolist())
    return found
