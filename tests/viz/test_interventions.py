"""Picture and audit name the weights that the way back reads: those that matter when changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import fxbio
from fxbio.viz import draw
from tests.interventions import transports
from tests.routes.nets import Convolutions
from tests.viz.nets import Pyramid, Residual, Shared, chain

Entry = dict[str, Any]


class Skips(nn.Module):
    """Layers in a row, most of them beside a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.l1, self.l2, self.l3 = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.l4, self.l5, self.l6 = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.l1(x))
        x = x + self.l2(x)
        x = x + self.l4(torch.relu(self.l3(x)))
        x = x + self.l5(x)
        x = x + self.l6(x)
        result: Tensor = self.out(x)
        return result


class Gated(nn.Module):
    """Two branches that multiply each other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.value = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.stem(x))
        result: Tensor = self.out(torch.sigmoid(self.gate(h)) * torch.tanh(self.value(h)))
        return result


class Dense(nn.Module):
    """Every layer reads the outputs of all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 4), nn.Linear(10, 4), nn.Linear(14, 4)
        self.out = nn.Linear(18, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.a, self.b, self.c):
            x = torch.cat([x, torch.relu(layer(x))], 1)
        result: Tensor = self.out(x)
        return result


class LateActivation(nn.Module):
    """A stream that is read before the nonlinearity behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        g = self.b(torch.tanh(h)) + h
        result: Tensor = self.out(torch.tanh(self.c(g)) + g)
        return result


def rows() -> Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(3))


def images() -> Tensor:
    return torch.randn(4, 2, 10, 10, generator=torch.Generator().manual_seed(3))


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "chain": (lambda: chain(4), rows),
    "residual": (lambda: Residual(blocks=2), rows),
    "shared": (Shared, rows),
    "pyramid": (Pyramid, rows),
    "skips": (Skips, rows),
    "gated": (Gated, rows),
    "dense": (Dense, rows),
    "late": (LateActivation, rows),
    "convolutions": (Convolutions, images),
}

BELOW: dict[str, list[str]] = {
    "chain": ["0", "2"],
    "residual": ["stem", "blocks.0.*"],
    "skips": ["l1", "l2", "l5"],
    "gated": ["stem", "gate"],
    "dense": ["a", "b"],
    "late": ["a"],
    "convolutions": ["one"],
}
"""Layers that get another rule than the rest in the mixed policies."""


def mixed(net: str, upper: str, lower: str) -> tuple[str, list[Entry]]:
    own = {"where": {"module": BELOW[net], "op": ["conv", "linear"]}, "rule": lower}
    return upper, [own]


def cases() -> list[tuple[str, str, str]]:
    uniform = [(net, rule, rule) for net in NETS for rule in ("bp", "fa", "usf", "frsf", "stop")]
    routed = [(net, rule, rule) for net in BELOW for rule in ("dfa", "dgl")]
    over = [(net, "dfa", rule) for net in BELOW for rule in ("fa", "bp", "usf")]
    under = [(net, rule, "dfa") for net in BELOW for rule in ("fa", "bp", "kp")]
    return [*uniform, *routed, *over, *under]


def loss_of(out: Any) -> Tensor:
    first = tree_leaves(out)[0]
    others = sum(t.square().mean() for t in tree_leaves(out)[1:])
    return nn.functional.cross_entropy(first, torch.arange(len(first)) % first.shape[1]) + others


@pytest.mark.parametrize(("net", "upper", "lower"), cases())
def test_picture_and_audit_say_what_is_read(net: str, upper: str, lower: str) -> None:
    torch.manual_seed(0)
    model, x = NETS[net][0](), NETS[net][1]()
    entries = [] if upper == lower else mixed(net, upper, lower)[1]
    text = yaml.safe_dump({"version": 1, "default": upper, "rules": entries})
    policy = fxbio.Policy.from_yaml(text)
    transformed = fxbio.transform(model, policy, x)
    read = {
        name.removesuffix(".weight"): kind
        for name, kind in transports(transformed, x, loss_of).items()
    }
    assert by_audit(transformed, x, read) == read
    assert by_picture(model, policy, x, read) == read


def by_audit(model: nn.Module, x: Tensor, weights: dict[str, str]) -> dict[str, str]:
    rows = {row.site: row for row in fxbio.audit(model, x, loss_of).rows}
    said = dict.fromkeys(weights, "none")
    for site, row in rows.items():
        weight = site.partition("#")[0]
        if weight in said and not row.input_only and row.transport in ("full", "sign", "magnitude"):
            said[weight] = row.transport
    return said


def by_picture(
    model: nn.Module, policy: fxbio.Policy, x: Tensor, weights: dict[str, str]
) -> dict[str, str]:
    words = {"weights": "full", "signs": "sign", "copies": "none", "none": "none"}
    said = dict.fromkeys(weights, "none")
    for node in draw(model, policy, x, level="site").nodes:
        for passage in node.passages:
            for site in passage.sites:
                if passage.used and passage.reached and site.partition("#")[0] in said:
                    word = words[passage.transports]
                    said[site.partition("#")[0]] = max(
                        word, said[site.partition("#")[0]], key=_weight
                    )
    return said


def _weight(word: str) -> int:
    return ("none", "sign", "magnitude", "full").index(word)
