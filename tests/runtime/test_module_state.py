"""The state of a rewritten module: its rule, its counts, and what copies have of them."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

import fxbio
from fxbio.rules import make_rule
from fxbio.runtime.binding import BoundWeight
from fxbio.runtime.module_state import STATE, binding_of, state_of

RULES: dict[str, dict[str, Any]] = {
    "usf": {"magnitude": 0.5},
    "fa": {"magnitude": "matched"},
    "brsf": {"redraw_every": 3},
    "kp": {},
    "sa": {"beta": 0.25},
    "aa": {"share": 0.5},
    "pfa": {"ratio": 2},
    "stop": {},
}


def transformed(rule: str) -> nn.Module:
    torch.manual_seed(0)
    stock = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    return fxbio.transform(stock, fxbio.Policy.uniform(rule, **RULES[rule]), torch.ones(1, 3))


def pickled(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded: nn.Module = torch.load(buffer, weights_only=False)
    return loaded


def carried(model: nn.Module) -> list[BoundWeight]:
    return [bound for module in model.modules() for bound in binding_of(module).weights]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("copied", [lambda model: model, copy.deepcopy, pickled])
def test_a_module_carries_the_rule_itself(rule: str, copied: Any) -> None:
    expected = make_rule(rule, RULES[rule])
    found = carried(copied(transformed(rule)))
    assert [bound.weight for bound in found] == ["0.weight", "2.weight"]
    for bound in found:
        assert bound.rule == expected
        assert type(bound.rule) is type(expected)
        assert bound.spec == expected.spec()


@pytest.mark.parametrize("rule", ["pfa", "kp"])
def test_the_path_of_a_rule_survives_copies(rule: str) -> None:
    """B is made of what is learned and what was drawn, as the rule of the copy says."""
    model = transformed(rule)
    matrices = fxbio.feedback_weights(model)
    for found in (copy.deepcopy(model), pickled(model)):
        state = dict(model.named_parameters()) | dict(model.named_buffers())
        again = fxbio.feedback_weights(found)
        for layer, name in (("0", "0.weight"), ("2", "2.weight")):
            learned = state[f"{layer}.fxbio_feedback_0"].detach()
            drawn = state.get(f"{layer}.fxbio_feedback_0_drawn")
            expected = learned if drawn is None else (drawn.mT @ learned).squeeze(0)
            torch.testing.assert_close(matrices[name], expected)
            assert torch.equal(again[name], matrices[name])


@pytest.mark.parametrize("rule", RULES)
def test_all_that_a_module_carries_besides_tensors_is_one_object(rule: str) -> None:
    """Whatever it has gone through: steps, loads of stock checkpoints, and copies."""
    model = transformed(rule)
    train(model, steps=2)
    stock = {name: value for name, value in model.state_dict().items() if "fxbio" not in name}
    model.load_state_dict(stock)
    for found in (model, copy.deepcopy(model), pickled(model)):
        for module in (found[0], found[2]):
            kept = {name for name in vars(module) if "fxbio" in name}
            assert kept == {STATE}
            assert not state_of(module).lacking
    fxbio.revert(model)
    assert not any("fxbio" in name for module in model for name in vars(module))


def train(model: nn.Module, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_copies_count_updates_each_for_itself(copied: Any) -> None:
    model = transformed("brsf")
    train(model, steps=2)
    layer = copied(model[0])
    twin = nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 2))
    assert [state_of(m).updates for m in (model[0], layer)] == [2, 2]
    fxbio.count_update(twin)
    assert [state_of(m).updates for m in (model[0], layer)] == [2, 3]
    fxbio.count_update(model)
    fxbio.count_update(model)
    assert [state_of(m).updates for m in (model[0], layer)] == [4, 3]
    assert fxbio.redraw_counts(model) == {"0": 4, "2": 4}
    assert fxbio.redraw_counts(twin) == {"0": 3}
