"""The controls: backprop everywhere, frozen weights, and an error that stops."""

from __future__ import annotations

import pytest
import torch

import fxbio
from fxbio.errors import FxbioError
from tests.battery.cases import CASES, OF_MATRICES
from tests.battery.harness import loss_of, measure, policy_of, subject

every_case = pytest.mark.parametrize("case", CASES)


@every_case
def test_backprop_everywhere_changes_nothing(case: str) -> None:
    combination = subject("bp", case)
    model, stock = combination.transformed(), combination.case.build()
    for (path, mine), theirs in zip(model.named_modules(), stock.modules(), strict=True):
        assert type(mine).__name__ == type(theirs).__name__, path
        assert type(mine).__mro__[1:] == type(theirs).__mro__[1:], path
        assert type(mine).forward is type(theirs).forward, path
    assert [n for n, _ in model.named_buffers()] == [n for n, _ in stock.named_buffers()]
    found = measure(model, model, combination.case.example())
    found.check_output(combination.stock)
    for name, gradient in combination.stock.gradients.items():
        assert torch.equal(found.gradients[name], gradient), name


@every_case
def test_frozen_weights_stay_and_their_biases_learn(case: str) -> None:
    combination = subject("frozen", case)
    model, x = combination.transformed(), combination.case.example()
    still = {name for name, p in model.named_parameters() if not p.requires_grad}
    expected = {f"body.{name}" for name in combination.case.weights} & set(model.state_dict())
    assert expected <= still
    assert still.isdisjoint({"gain", "body.bias", "body.layer.bias", "body.shift"})
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    # Every parameter, and with weight decay: what users do.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        loss_of(model(x)).backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == (name in still), name


@every_case
def test_revert_sets_frozen_weights_free(case: str) -> None:
    combination = subject("frozen", case)
    model = fxbio.revert(combination.transformed())
    assert all(p.requires_grad for p in model.parameters())


def test_revert_leaves_frozen_what_the_user_froze() -> None:
    case = CASES["attention"]
    stock = case.build()
    stock.body.attention.in_proj_weight.requires_grad_(False)
    model = fxbio.transform(stock, policy_of("frozen"), (case.example(2),))
    with fxbio.backprop(model):
        assert not model.body.attention.in_proj_weight.requires_grad
        assert model.body.attention.out_proj.weight.requires_grad
    fxbio.revert(model)
    assert not model.body.attention.in_proj_weight.requires_grad
    assert model.body.attention.out_proj.weight.requires_grad


@pytest.mark.parametrize("case", OF_MATRICES)
def test_the_error_stops(case: str) -> None:
    combination = subject("stop", case)
    found = measure(m := combination.transformed(), m, combination.case.example())
    assert found.gradients["gain"] is None
    assert found.gradients["input"] is None
    trained = [n for n in found.gradients if n.startswith("body.") and n != "input"]
    assert any(found.gradients[name] is not None for name in trained)


def test_a_policy_for_one_layer_leaves_the_others_alone() -> None:
    case = CASES["attention"]
    policy = fxbio.Policy.uniform("bp").append(where="body.attention.out_proj", rule="fa")
    model, stock = fxbio.transform(case.build(), policy, (case.example(2),)), case.build()
    assert set(fxbio.feedback_weights(model)) == {"body.attention.out_proj.weight"}
    mine, theirs = (measure(m, m, case.example()) for m in (model, stock))
    mine.check_output(theirs)
    same = {n for n, g in theirs.gradients.items() if torch.equal(g, mine.gradients[n])}
    assert same == {"body.attention.out_proj.weight", "body.attention.out_proj.bias"}


def test_a_failed_transform_changes_nothing() -> None:
    case = CASES["lora"]
    stock = case.build()
    keys = {path: (type(m), set(vars(m))) for path, m in stock.named_modules()}
    with pytest.raises(FxbioError):
        fxbio.transform(stock, policy_of("signed-init"), (case.example(2),), inplace=True)
    assert {path: (type(m), set(vars(m))) for path, m in stock.named_modules()} == keys
