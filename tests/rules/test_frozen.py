"""A frozen weight stays, whatever a training loop does with ``requires_grad``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio


class Functional(nn.Module):
    """A weight in a forward of its own: as it is, or computed."""

    def __init__(self, apply: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6))
        self.apply_to = apply

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_to(x, self.weight)


class Adapted(nn.Module):
    """A weight that is made of two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.delta = (nn.Parameter(torch.randn(6, 6)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight + self.delta)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(6, 6),
    "conv": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 1, 3, padding=1), nn.Flatten()
    ),
    "transposed": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.ConvTranspose1d(1, 1, 3, padding=1), nn.Flatten()
    ),
    "norm": lambda: nn.LayerNorm(6),
    "batch norm": lambda: nn.BatchNorm1d(6),
    "group norm": lambda: nn.GroupNorm(2, 6),
    "function": lambda: Functional(F.linear),
    "matmul": lambda: Functional(torch.matmul),
    "addmm": lambda: Functional(lambda x, w: torch.addmm(torch.ones(6), x, w)),
    "einsum": lambda: Functional(lambda x, w: torch.einsum("bi,io->bo", x, w)),
    "of two": Adapted,
}
ENTRY = "version: 1\ndefault: bp\nrules:\n  - {where: %s, rule: frozen}\n"
SELECTORS = {
    **dict.fromkeys(["norm", "batch norm", "group norm"], "{op: norm}"),
    **dict.fromkeys(["conv", "transposed"], '{module: "1.**"}'),
}


def whole(model: nn.Module) -> None:
    """The turn of the other network, and back."""
    model.requires_grad_(False).requires_grad_(True)


def one_by_one(model: nn.Module) -> None:
    """Gradual unfreezing."""
    for parameter in model.parameters():
        parameter.requires_grad = True


@pytest.fixture(params=LAYERS)
def nets(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module, Tensor]:
    """A net with a frozen layer, the stock net, and an input."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 6), LAYERS[request.param](), nn.Linear(6, 3))
    x = torch.randn(8, 6)
    policy = ENTRY % SELECTORS.get(request.param, '{module: "1"}')
    return fxbio.transform(net, fxbio.Policy.from_yaml(policy), x), net, x


def frozen_names(model: Any) -> set[str]:
    rewritten = model._fxbio_record.plan.rewritten()
    return {source for assignment in rewritten for source in assignment.site.sources}


@pytest.mark.parametrize("toggle", [whole, one_by_one])
def test_a_loop_that_switches_gradients_on_does_not_thaw_it(
    nets: tuple[nn.Module, nn.Module, Tensor], toggle: Callable[[nn.Module], None]
) -> None:
    model, stock, x = nets
    frozen = frozen_names(model)
    assert frozen
    every = list(model.parameters())
    ours = torch.optim.SGD(every, lr=0.1, momentum=0.9, weight_decay=0.1)
    learning = [p for name, p in stock.named_parameters() if name not in frozen]
    theirs = torch.optim.SGD(learning, lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        toggle(model)
        for net, optimizer in ((model, ours), (stock, theirs)):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    expected = dict(stock.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, expected[name]), name
        assert (parameter.grad is None) == (name in frozen), name
    found = fxbio.verify(model)
    assert found.ok, str(found)


def test_copies_and_backprop_within_leave_it_frozen(
    nets: tuple[nn.Module, nn.Module, Tensor],
) -> None:
    model, _, x = nets
    frozen = frozen_names(model)
    whole(model)
    with fxbio.backprop(model):
        model(x).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
    assert all(p.requires_grad for p in model.parameters())  # as the loop had left them
    copied = copy.deepcopy(model)
    copied.zero_grad()
    copied(x).sum().backward()
    assert {name for name, p in copied.named_parameters() if p.grad is None} == frozen


class Tied(nn.Module):
    """A head whose weight is the table of the embedding too, which no rule reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.head(self.table(ids))
        return out


def test_verify_finds_one_that_another_use_trains() -> None:
    ids = torch.arange(5)
    model = fxbio.transform(Tied(), fxbio.Policy.uniform("frozen"), ids)
    whole(model)
    found = fxbio.verify(model)
    assert not found.ok
    assert found.silent_backprop == ("table.weight",)
