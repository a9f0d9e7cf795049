"""Small nets whose pictures can be drawn by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import fxbio
from fxbio.viz import Level, Picture, draw

__all__ = ["Hidden", "Pyramid", "Residual", "Shared", "chain", "edges", "picture", "titles"]


class Block(nn.Module):
    """A residual block of two weights."""

    def __init__(self, inner: int = 6) -> None:
        super().__init__()
        self.up = nn.Linear(6, inner)
        self.norm = nn.LayerNorm(inner)
        self.down = nn.Linear(inner, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.norm(self.up(x)).tanh())


class Residual(nn.Module):
    """A stem, some blocks and a head."""

    def __init__(self, blocks: int = 4) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.blocks = nn.Sequential(*(Block() for _ in range(blocks)))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.stem(x)))
        return out


class Shared(nn.Module):
    """One layer used three times, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.again = nn.Linear(6, 6)
        self.idle = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for _ in range(3):
            x = self.again(x).tanh()
        return x


class Hidden(nn.Module):
    """A recurrent layer, which no rule reaches, between two that rules reach."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.recurrent = nn.LSTM(6, 6)
        self.last = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.recurrent(self.first(x))[0])
        return out


class Pyramid(nn.Module):
    """Three stages, a lateral weight at each, joined from the top down, and two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.lateral = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.heads = nn.ModuleDict({"classes": nn.Linear(6, 3), "boxes": nn.Linear(6, 4)})

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        levels = []
        for stage in self.stages:
            x = stage(x).relu()
            levels.append(x)
        top = self.lateral[2](levels[2])
        joined = [top]
        for place in (1, 0):
            top = top + self.lateral[place](levels[place])
            joined.append(top)
        return [(self.heads["classes"](level), self.heads["boxes"](level)) for level in joined]


def chain(layers: int) -> nn.Sequential:
    """Linear layers ``0``, ``2``, … with a tanh between each and the next."""
    parts = [part for _ in range(layers) for part in (nn.Linear(6, 6), nn.Tanh())]
    return nn.Sequential(*parts[:-1])


def picture(model: nn.Module, policy: str, level: Level = "block") -> Picture:
    """Under a policy given as YAML without its version, or as the name of a rule."""
    text = policy if ":" in policy else f"default: {policy}"
    return draw(
        model, fxbio.Policy.from_yaml(f"version: 1\n{text}\n"), torch.zeros(2, 6), level=level
    )


def titles(picture: Picture) -> dict[str, str]:
    """Titles of the nodes by id; the kind where joins have the same."""
    return {node.id: node.title for node in picture.nodes}


def edges(picture: Picture, kind: str) -> list[tuple[str, str]]:
    """Edges of a kind by the titles of their ends."""
    named = titles(picture)
    return [(named[e.source], named[e.target]) for e in picture.edges if e.kind == kind]
