"""Optimizers that do not train learned feedback as its rule needs are told so."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch

import fxbio
from fxbio.errors import FxbioWarning, ModelError
from tests.runtime.learning import batch, loss_of, network, train, transformed

LEARNED = ["aa", "ia", "kp", "pfa", "sa", "wm"]
every_learned = pytest.mark.parametrize("rule", LEARNED)


def stock_parameters(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for name, p in model.named_parameters() if "fxbio" not in name]


@every_learned
def test_an_optimizer_without_the_feedback_is_an_error_at_its_second_step(rule: str) -> None:
    model = transformed(rule)
    optimizer = torch.optim.SGD(stock_parameters(model), lr=0.1)
    train(model, optimizer)
    with pytest.raises(ModelError) as caught:
        train(model, optimizer)
    text = str(caught.value)
    assert "trains '" in text
    assert "none trains its feedback" in text
    assert f"rule {rule} learns it: the parameter 'fxbio_feedback_0'" in text
    assert "fxbio.param_groups(model)" in text


@every_learned
def test_two_optimizers_may_share_the_work(rule: str) -> None:
    model = transformed(rule)
    ours = [p for name, p in model.named_parameters() if "fxbio" in name]
    first = torch.optim.SGD(stock_parameters(model), lr=0.1, weight_decay=0.1)
    second = torch.optim.SGD(ours, lr=0.1, weight_decay=0.1)
    for _ in range(3):
        train(model, first)
        second.step()


@every_learned
def test_feedback_that_the_user_froze_needs_no_optimizer(rule: str) -> None:
    model = transformed(rule)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("fxbio" not in name)
    train(model, torch.optim.SGD(stock_parameters(model), lr=0.1), steps=3)


@every_learned
def test_backprop_needs_no_optimizer_of_feedback(rule: str) -> None:
    model = transformed(rule)
    with fxbio.backprop(model):
        train(model, torch.optim.SGD(stock_parameters(model), lr=0.1), steps=3)


@pytest.mark.parametrize("rule", ["fbp", "fa", "brsf"])
def test_feedback_that_does_not_learn_needs_no_optimizer(rule: str) -> None:
    model = transformed(rule)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), steps=3)


def test_mirrors_of_the_mirror_phase_need_no_optimizer() -> None:
    model = transformed("wm", phase="mirror")
    train(model, torch.optim.SGD(stock_parameters(model), lr=0.1), steps=3)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "Adamax"])
def test_adaptive_optimizers_of_products_are_warned_of(name: str) -> None:
    model = transformed("pfa")
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01)
    with pytest.warns(FxbioWarning, match=f"is trained by {name}.* rule pfa .* use SGD") as caught:
        train(model, optimizer)
    assert len(caught) == 1  # and not one for each layer
    assert "the feedback of '0.weight' and 2 more is trained" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, steps=2)


def test_adaptive_optimizers_with_mixed_decay_are_warned_of() -> None:
    model = transformed("kp")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1)
    with pytest.warns(FxbioWarning, match="use SGD, or AdamW"):
        train(model, optimizer)


@pytest.mark.parametrize(
    ("rule", "optimizer"),
    [
        ("kp", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1)),
        ("pfa", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1)),
        ("kp", lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
        ("sa", lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1)),
        ("wm", lambda p: torch.optim.RMSprop(p, lr=0.01)),
    ],
)
def test_optimizers_that_do_are_not_warned_of(rule: str, optimizer: object) -> None:
    model = transformed(rule)
    train(model, optimizer(model.parameters()), steps=2)  # type: ignore[operator]


def test_different_options_of_weight_and_feedback_are_warned_of() -> None:
    model = transformed("kp")
    groups = fxbio.param_groups(model, [{"params": "feedback", "weight_decay": 0.0, "lr": 0.2}])
    optimizer = torch.optim.SGD(groups, lr=0.1, weight_decay=0.1)
    with pytest.warns(FxbioWarning, match="other options than its weight: lr, weight_decay"):
        train(model, optimizer)


def test_the_second_transformed_model_is_warned_of_too() -> None:
    for _ in range(2):
        model = transformed("pfa")
        with pytest.warns(FxbioWarning):
            train(model, torch.optim.Adam(model.parameters()))


def one_optimizer(name: str, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    return [getattr(torch.optim, name)(model.parameters(), lr=0.01, weight_decay=0.0)]


def one_for_each_parameter(name: str, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    cls = getattr(torch.optim, name)
    return [cls([p], lr=0.01, weight_decay=0.0) for p in model.parameters()]


def one_for_each_layer(name: str, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    parts = [list(layer.parameters()) for layer in model.children()]
    return [getattr(torch.optim, name)(p, lr=0.01, weight_decay=0.0) for p in parts if p]


def several_groups(name: str, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    groups = fxbio.param_groups(
        model, [{"params": "feedback"}, {"params": "biases", "weight_decay": 0.1}]
    )
    return [getattr(torch.optim, name)(groups, lr=0.01, weight_decay=0.0)]


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
@pytest.mark.parametrize(
    "optimizers", [one_optimizer, one_for_each_parameter, one_for_each_layer, several_groups]
)
def test_missing_decay_is_told_once(name: str, optimizers: Any) -> None:
    model = transformed("kp")
    trained_by = optimizers(name, model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(3):
            model.zero_grad()
            loss_of(model(batch(number))).backward()
            for optimizer in trained_by:
                optimizer.step()
    text = (
        f"without weight decay.* rule kp; .*{name}\\(model.parameters\\(\\), …, weight_decay=1e-4"
    )
    assert len(caught) == 1
    assert caught[0].category is FxbioWarning
    assert re.search(text, str(caught[0].message))


@pytest.mark.parametrize("rule", ["pfa", "pfa-o"])
def test_missing_decay_of_products_is_told(rule: str) -> None:
    model = transformed(rule)
    with pytest.warns(FxbioWarning, match=f"without weight decay.* rule {rule};"):
        train(model, torch.optim.SGD(model.parameters(), lr=0.01))


def test_missing_decay_is_told_again_of_a_resumed_run() -> None:
    first = transformed("kp")
    before = torch.optim.SGD(first.parameters(), lr=0.01, momentum=0.9)
    with pytest.warns(FxbioWarning, match="without weight decay"):
        train(first, before)
    resumed = transformed("kp")
    resumed.load_state_dict(first.state_dict())
    after = torch.optim.SGD(resumed.parameters(), lr=0.01, weight_decay=0.1)
    after.load_state_dict(before.state_dict())  # which brings the old options back
    with pytest.warns(FxbioWarning, match="without weight decay") as caught:
        train(resumed, after, steps=3)
    assert len(caught) == 1


@pytest.mark.parametrize("rule", ["aa", "ia", "sa", "wm", "fbp", "fa"])
def test_rules_that_need_no_decay_are_not_warned_of(rule: str) -> None:
    model = transformed(rule)
    train(model, torch.optim.SGD(model.parameters(), lr=0.01), steps=2)


def test_a_stock_model_hears_nothing() -> None:
    model = network()
    train(model, torch.optim.Adam(model.parameters(), weight_decay=0.1), steps=2)
