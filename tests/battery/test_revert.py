"""``revert`` and ``backprop``: the way back, for good and for a moment."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import fxbio
from fxbio.errors import ModelError
from tests.battery.harness import combinations, measure, subject
from tests.battery.rules import RULES


@pytest.mark.parametrize(("rule", "case"), combinations())
def test_revert_gives_the_stock_model_back(rule: str, case: str) -> None:
    combination = subject(rule, case)
    model, stock = combination.transformed(), combination.case.build()
    reverted = fxbio.revert(model)
    assert reverted is model
    assert_stock(model, stock)
    found = measure(model, model, combination.case.example())
    found.check_output(combination.stock)
    for name, gradient in combination.stock.gradients.items():
        assert torch.equal(found.gradients[name], gradient), name


@pytest.mark.parametrize(("rule", "case"), combinations())
def test_backprop_runs_the_stock_model_for_a_moment(rule: str, case: str) -> None:
    combination = subject(rule, case)
    model, x = combination.transformed(), combination.case.example()
    with fxbio.backprop(model):
        inside = measure(model, model, x)
    inside.check_output(combination.stock)
    for name, gradient in combination.stock.gradients.items():
        assert torch.equal(inside.gradients[name], gradient), name
    combination.check(measure(model, model, x))


def test_backprop_ends_with_an_exception_too() -> None:
    combination = subject("fa", "conv2d")
    model = combination.transformed()
    with pytest.raises(KeyError), fxbio.backprop(model):
        raise KeyError
    combination.check(measure(model, model, combination.case.example()))


@pytest.mark.parametrize("rule", RULES)
def test_revert_keeps_what_was_learned(rule: str) -> None:
    model = subject(rule, "attention").transformed()
    train(model, steps=3)
    learned = {name: p.detach().clone() for name, p in model.named_parameters()}
    fxbio.revert(model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, learned[name]), name


def test_a_reverted_model_can_be_transformed_again() -> None:
    combination = subject("usf", "shared")
    model = fxbio.revert(subject("fa", "shared").transformed())
    policy = fxbio.Policy.from_yaml("version: 1\ndefault: usf\n")
    again = fxbio.transform(model, policy, (combination.case.example(2),))
    combination.check(measure(again, again, combination.case.example()))


def test_a_stock_model_has_nothing_to_revert() -> None:
    with pytest.raises(ModelError, match="not a transformed model"):
        fxbio.revert(nn.Linear(2, 2))


def test_transforming_twice_is_refused() -> None:
    combination = subject("fa", "conv2d")
    model = combination.transformed()
    policy = fxbio.Policy.uniform("usf")
    with pytest.raises(ModelError, match="transformed already"):
        fxbio.transform(model, policy, (combination.case.example(2),))
    combination.check(measure(model, model, combination.case.example()))


def assert_stock(model: nn.Module, stock: nn.Module) -> None:
    """Nothing is left of a transformation."""
    pairs = list(zip(model.named_modules(), stock.named_modules(), strict=True))
    for (path, mine), (_, theirs) in pairs:
        # Parametrized classes are made anew for each module.
        assert type(mine).__mro__[-3:] == type(theirs).__mro__[-3:], path
        assert type(mine).__name__ == type(theirs).__name__, path
        assert vars(mine).keys() == vars(theirs).keys(), path
        assert mine._buffers.keys() == theirs._buffers.keys(), path
    flags = {name: p.requires_grad for name, p in stock.named_parameters()}
    assert {name: p.requires_grad for name, p in model.named_parameters()} == flags
    assert copy.deepcopy(model).state_dict().keys() == stock.state_dict().keys()


def train(model: nn.Module, steps: int) -> None:
    """A few steps of SGD with weight decay."""
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.1, weight_decay=0.1)
    x = torch.randn(4, 5, 16, generator=torch.Generator().manual_seed(5))
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
