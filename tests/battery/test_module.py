"""A transformed model is the user's own module: keys, order, methods, hooks, classes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import fxbio
from tests.battery.cases import CASES, OF_MATRICES
from tests.battery.harness import combinations, loss_of, policy_of, subject
from tests.battery.modules import Model, Shared, StandardisedConv2d
from tests.battery.rules import RULES

every = pytest.mark.parametrize(("rule", "case"), combinations())


@every
def test_state_and_parameters_are_those_of_the_stock_model(rule: str, case: str) -> None:
    model, stock = subject(rule, case).transformed(), CASES[case].build()
    added = [key for key in model.state_dict() if key not in stock.state_dict()]
    assert bool(added) == RULES[rule].extends_state
    assert all("fxbio_feedback" in key for key in added)
    assert [key for key in model.state_dict() if key not in added] == list(stock.state_dict())
    kept = [(n, p) for n, p in model.named_parameters() if n not in added]
    for one, other in zip(kept, stock.named_parameters(), strict=True):
        assert one[0] == other[0]
        assert torch.equal(one[1], other[1])
    assert [n for n, _ in model.named_modules()] == [n for n, _ in stock.named_modules()]


@every
def test_classes_methods_and_names_are_the_users(rule: str, case: str) -> None:
    model, stock = subject(rule, case).transformed(), CASES[case].build()
    assert repr(model) == repr(stock)
    assert isinstance(model, Model)
    assert model.scaled(2.0) == stock.scaled(2.0)
    for mine, theirs in zip(model.modules(), stock.modules(), strict=True):
        assert type(mine).__name__ == type(theirs).__name__
        assert isinstance(mine, type(theirs).__mro__[1])


@pytest.mark.parametrize(
    ("case", "cls"),
    [("conv2d", nn.Conv2d), ("standardised", StandardisedConv2d), ("shared", Shared)],
)
def test_isinstance_holds(case: str, cls: type) -> None:
    assert isinstance(subject("fa", case).transformed().body, cls)


@every
def test_hooks_still_fire(rule: str, case: str) -> None:
    model, seen = subject(rule, case).transformed(), []
    for module in model.modules():
        module.register_forward_pre_hook(lambda m, a: seen.append(("before", id(m))))
        module.register_forward_hook(lambda m, a, out: seen.append(("after", id(m))))
    model.body.register_full_backward_hook(lambda m, below, above: seen.append(("error", id(m))))
    loss = loss_of(model(CASES[case].example()))
    forward = list(seen)  # a rule may look at its weight in the backward pass, too
    loss.backward()
    stock_seen: list[Any] = []
    stock = CASES[case].build()
    for module in stock.modules():
        module.register_forward_hook(lambda m, a, out: stock_seen.append(id(m)))
    stock(CASES[case].example())
    assert len([1 for kind, _ in forward if kind == "after"]) == len(stock_seen)
    assert len([1 for kind, _ in forward if kind == "before"]) == len(stock_seen)
    # Torch calls a backward hook when the error reaches the input, which is what ``stop`` prevents.
    assert (("error", id(model.body)) in seen) == (rule != "stop" or CASES[case].table)


def test_hooks_from_before_the_transformation_stay() -> None:
    stock, seen = CASES["conv2d"].build(), []
    stock.body.register_forward_hook(lambda m, a, out: seen.append(type(m).__name__))
    model = fxbio.transform(stock, policy_of("fa"), (CASES["conv2d"].example(),), inplace=True)
    seen.clear()
    model(CASES["conv2d"].example())
    assert seen == ["Conv2d"]


@pytest.mark.parametrize("case", OF_MATRICES)
@pytest.mark.parametrize("rule", ["fa", "frsf", "brsf"])
def test_persistent_feedback_is_in_the_state(rule: str, case: str) -> None:
    x, stock = CASES[case].example(), CASES[case].build()
    text = f"version: 1\nseed: {{}}\npersist_feedback: true\ndefault: {rule}\n"
    models = [
        fxbio.transform(stock, fxbio.Policy.from_yaml(text.format(seed)), (x,)) for seed in (3, 4)
    ]
    extra = set(models[0].state_dict()) - set(stock.state_dict())
    assert extra
    assert extra == {name for name, _ in models[0].named_buffers()}
    assert all("fxbio_feedback" in name for name in extra)
    models[1].load_state_dict(models[0].state_dict(), strict=True)
    for name in extra:
        assert torch.equal(models[1].state_dict()[name], models[0].state_dict()[name])


@pytest.mark.parametrize("case", OF_MATRICES)
def test_ddp_is_told_to_leave_the_feedback_alone(case: str) -> None:
    model = subject("fa", case).transformed()
    ignored = model._ddp_params_and_buffers_to_ignore
    assert set(ignored) == {n for n, _ in model.named_buffers() if "fxbio_feedback" in n}
    assert copy.deepcopy(model)._ddp_params_and_buffers_to_ignore == ignored


def test_any_loop_trains_it() -> None:
    case = CASES["linear-3d"]
    model = fxbio.transform(case.build(), policy_of("usf"), (case.example(),))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = loss_of(model(case.example()))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
