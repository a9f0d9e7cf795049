"""Feedback read and set from outside: what the backward pass then does, and what is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxbio
from fxbio.errors import ModelError


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def transformed(rule: str, **options: object) -> nn.Sequential:
    torch.manual_seed(0)
    model = fxbio.transform(network(), fxbio.Policy.uniform(rule, **options), normal(2, 6))
    assert isinstance(model, nn.Sequential)
    return model


def gradients(model: nn.Sequential) -> list[Any]:
    """Of the three weights, for the loss ``½ ‖y‖²``, whose error is the output."""
    model.zero_grad()
    (model(normal(7, 6)).square().sum() / 2).backward()
    return [model[k].weight.grad for k in (0, 2, 4)]


def by_hand(model: nn.Sequential, back: Callable[[Tensor], tuple[Tensor, Tensor]]) -> list[Tensor]:
    """The same, with errors at both hidden layers as ``back`` makes them of the output's."""
    with torch.no_grad():
        x = normal(7, 6)
        h = model[1](model[0](x))
        g = model[3](model[2](h))
        e = model[4](g)
        below, above = back(e)
        low, high = below * (1 - h**2), above * (1 - g**2)
        return [low.T @ x, high.T @ h, e.T @ g]


@pytest.mark.parametrize("rule", ["fa", "kp", "wm", "sa"])
def test_the_error_goes_back_through_what_was_set(rule: str) -> None:
    model, b2, b4 = transformed(rule), normal(4, 5, seed=1), normal(3, 4, seed=2)
    fxbio.set_feedback_weights(model, {"2.weight": b2.double(), "4.weight": b4})
    assert torch.equal(fxbio.feedback_weights(model)["2.weight"], b2)

    def chain(e: Tensor) -> tuple[Tensor, Tensor]:
        above = e @ b4
        with torch.no_grad():
            g = model[:4](normal(7, 6))
        return (above * (1 - g**2)) @ b2, above

    torch.testing.assert_close(gradients(model), by_hand(model, chain))


@pytest.mark.parametrize("projection", ["dense", "channel", "sparse"])
def test_broadcast_matrices_by_the_name_of_the_receiver(projection: str) -> None:
    model = transformed("dfa", projection=projection)
    assert {n: (*b.shape,) for n, b in fxbio.broadcast_weights(model).items()} == {
        "0": (3, 5),
        "2": (3, 4),
    }
    found = fxbio.broadcast_weights(model)
    torch.testing.assert_close(
        gradients(model), by_hand(model, lambda e: (e @ found["0"], e @ found["2"]))
    )
    b0, b2 = normal(3, 5, seed=1), normal(3, 4, seed=2)
    fxbio.set_feedback_weights(model, {"0": b0, "2": b2})
    torch.testing.assert_close(gradients(model), by_hand(model, lambda e: (e @ b0, e @ b2)))


@pytest.mark.parametrize(("rule", "name"), [("fa", "2.weight"), ("dfa", "2")])
def test_what_is_read_is_a_copy(rule: str, name: str) -> None:
    model = transformed(rule)

    def read() -> Tensor:
        return (fxbio.feedback_weights(model) | fxbio.broadcast_weights(model))[name]

    before = read().clone()
    read().zero_()
    assert torch.equal(read(), before)


def test_several_sources_are_told_apart() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.one, self.two = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.trunk(x).tanh()
            return self.one(h), self.two(h)

    policy = fxbio.Policy.uniform("dfa", source=["one", "two"])
    model = fxbio.transform(Heads(), policy, normal(2, 6))
    shapes = {name: (*b.shape,) for name, b in fxbio.broadcast_weights(model).items()}
    assert shapes == {"trunk <- one": (3, 5), "trunk <- two": (2, 5)}


def test_a_shared_matrix_is_set_for_all_and_by_one_value() -> None:
    model = transformed("dfa", projection="shared")
    b = normal(3, 5, seed=1)
    fxbio.set_feedback_weights(model, {"2": b})
    assert all(torch.equal(found, b) for found in fxbio.broadcast_weights(model).values())
    with pytest.raises(ModelError, match="'0' and '2' share one matrix"):
        fxbio.set_feedback_weights(model, {"0": b, "2": b + 1})


REFUSED = [
    ("usf", "2.weight", (4, 5), "rule 'usf' derives it from the forward weight"),
    ("frsf", "2.weight", (4, 5), "rule 'frsf' derives it from the forward weight"),
    ("signed-init", "2.weight", (4, 5), "rule 'signed-init' derives it"),
    ("fbp", "2.weight", (4, 5), "rule 'fbp' derives it from the forward weight"),
    ("pfa", "2.weight", (4, 5), "rule 'pfa' makes it of two matrices"),
    ("stop", "2.weight", (4, 5), "rule 'stop' sends no error"),
    ("fa", "2.wieght", (4, 5), "did you mean '2.weight'"),
    ("fa", "2.weight", (5, 4), r"has the shape \(4, 5\), not \(5, 4\)\n.*pass value.T"),
    ("dfa", "2.weight", (4, 5), "can be set: '0', '2'"),
    ("dfa", "2", (3, 5), r"has the shape \(3, 4\)"),
]


@pytest.mark.parametrize(("rule", "name", "shape", "message"), REFUSED)
def test_what_cannot_be_set(rule: str, name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        fxbio.set_feedback_weights(transformed(rule), {name: normal(*shape)})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(4, 5, dtype=torch.long), "not torch.int64"),
        ([[1.0]], "not list"),
        (torch.full((4, 5), torch.nan), "not finite"),
    ],
)
def test_odd_values_change_nothing(value: Tensor, message: str) -> None:
    model = transformed("fa")
    before = fxbio.feedback_weights(model)
    with pytest.raises(ModelError, match=message):
        fxbio.set_feedback_weights(model, {"4.weight": normal(3, 4), "2.weight": value})
    after = fxbio.feedback_weights(model)
    assert all(torch.equal(after[name], found) for name, found in before.items())


@pytest.mark.parametrize(
    ("rule", "name", "shape"), [("fa", "2.weight", (4, 5)), ("dfa", "2", (3, 4))]
)
def test_what_was_set_is_kept(rule: str, name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """By a folder, a copy, a ``state_dict``; and a checkpoint of the stock model still loads."""
    model, value = transformed(rule), normal(*shape, seed=1)
    assert not any("fxbio" in key for key in model.state_dict())
    fxbio.set_feedback_weights(model, {name: value})
    assert fxbio.verify(model).ok
    fxbio.save(model, tmp_path / "saved")
    loaded = fxbio.load(tmp_path / "saved", network(), normal(2, 6))
    fxbio.save(loaded, tmp_path / "again")
    again = fxbio.load(tmp_path / "again", network(), normal(2, 6))
    other = transformed(rule)
    fxbio.set_feedback_weights(other, {name: torch.zeros(shape)})
    other.load_state_dict(model.state_dict())
    for kept in (model, loaded, again, copy.deepcopy(model), other):
        kept.load_state_dict(network().state_dict())
        found = fxbio.feedback_weights(kept) | fxbio.broadcast_weights(kept)
        assert torch.equal(found[name], value)
