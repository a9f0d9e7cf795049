"""Hand-written modules that apply their weights in unusual ways, and what must be found in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Awkward", "all_awkward", "awkward", "find_awkward", "image", "rows", "tokens"]

WIDTH = 8
"""Size of every feature dimension."""

HOMES = ("functional", "shared", "derived", "attention", "control", "structure", "opaque")


@dataclass(frozen=True)
class Awkward:
    """A module, and by hand what capture has to say about it."""

    name: str
    build: Callable[[], nn.Module]
    """Makes the module; its ``example_inputs()`` makes what to call it with."""
    sites: tuple[str, ...]
    """``name op`` of every site in order, and the owner where that is not the module at the path;
    ``!`` behind one where no rule can be installed."""
    opaque: tuple[tuple[str, str], ...]
    """Path and a part of the reason of everything that cannot be seen into."""
    whole: bool
    """Whether the forward is one island."""


M = TypeVar("M", bound=type[nn.Module])
_CASES: dict[str, Awkward] = {}


def awkward(
    *sites: str, opaque: tuple[tuple[str, str], ...] = (), whole: bool = True
) -> Callable[[M], M]:
    """Class decorator that enters a module under the name of its class."""

    def register(cls: M) -> M:
        _CASES[cls.__name__] = Awkward(cls.__name__, cls, sites, opaque, whole)
        return cls

    return register


def all_awkward() -> dict[str, Awkward]:
    """All of them by name."""
    for home in HOMES:
        import_module(f"tests.graph.awkward_{home}")
    return _CASES


def find_awkward(name: str) -> nn.Module:
    """A fresh module, the same at every call."""
    torch.manual_seed(0)
    return all_awkward()[name].build().train()


def rows(*sizes: int) -> Tensor:
    """A batch of feature vectors, with further leading dimensions if asked for."""
    return torch.randn(*(sizes or (4,)), WIDTH, generator=torch.Generator().manual_seed(1))


def image() -> Tensor:
    """A batch of two feature maps."""
    return torch.randn(2, WIDTH, 6, 6, generator=torch.Generator().manual_seed(1))


def tokens() -> Tensor:
    """A batch of token numbers."""
    return torch.randint(10, (2, 5), generator=torch.Generator().manual_seed(1))
