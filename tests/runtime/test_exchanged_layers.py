"""A layer that takes the place of a rule is refused when it runs to be learned from."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxbio
from fxbio.errors import UnreachableWeightError

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Layers as attributes, in a block, and one that is a list."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.block = nn.Sequential(nn.Tanh(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh())
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.block(self.first(x)))
        return out


@functools.cache
def transformed(rule: str) -> nn.Module:
    torch.manual_seed(0)
    head = "  - {where: {module: head}, rule: bp}\n" if rule in ("dfa", "dtp") else ""
    blocks = ", with: {blocks: ['first', 'block']}" if rule == "dtp" else ""
    text = (
        f"version: 1\ndefault: bp\nrules:\n  - {{where: {{module: '**'}}, rule: {rule}{blocks}}}\n"
    )
    return fxbio.transform(Net(), fxbio.Policy.from_yaml(text + head), X)


def made(rule: str = "fa") -> Any:
    return copy.deepcopy(transformed(rule))


def assigned(model: Any) -> nn.Module:
    model.first = nn.Linear(6, 8)
    return model


def added(model: Any) -> nn.Module:
    model.add_module("first", nn.Linear(6, 8))
    return model


def in_a_container(model: Any) -> nn.Module:
    model.block[1] = nn.Linear(8, 8)
    return model


def a_whole_block(model: Any) -> nn.Module:
    model.block = nn.Sequential(nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
    return model


def left_out(model: Any) -> nn.Module:
    model.block = model.block[:1]
    return model


def twice(model: Any) -> nn.Module:
    return assigned(assigned(model))


def in_a_copy(model: Any) -> nn.Module:
    return assigned(copy.deepcopy(model))


def before_a_copy(model: Any) -> nn.Module:
    return copy.deepcopy(assigned(model))


def before_pickling(model: Any) -> nn.Module:
    return pickle.loads(pickle.dumps(assigned(model)))


def from_a_stock_model(model: Any) -> nn.Module:
    model.first = Net().first
    return model


ROADS = [assigned, added, in_a_container, a_whole_block, left_out, twice, in_a_copy]
ROADS += [before_a_copy, before_pickling, from_a_stock_model]


@pytest.mark.parametrize("rule", ["fa", "kp", "brsf", "frozen"])
@pytest.mark.parametrize("exchanged", ROADS, ids=lambda f: f.__name__)
def test_an_exchanged_layer_is_refused(exchanged: Callable[[Any], nn.Module], rule: str) -> None:
    model = exchanged(made(rule))
    name = "block.1.weight" if "block" in exchanged.__name__ else "first.weight"
    name = "block.1.weight" if exchanged in (in_a_container, left_out) else name
    with pytest.raises(UnreachableWeightError) as caught:
        model(X)
    text = str(caught.value)
    assert f"the layer of {name}" in text
    assert "was changed after transform: it was replaced by a" in text
    assert "<policy>:4" in text
    assert "fxbio.revert(model) first, change the layer" in text
    assert not fxbio.verify(model).ok
    with torch.no_grad():
        model(X)
    with fxbio.backprop(model):
        model(X).sum().backward()
    with pytest.raises(UnreachableWeightError):
        model(X)
    fxbio.revert(model)(X).sum().backward()
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("rule", ["dfa", "dtp"])
def test_so_is_one_whose_error_is_routed(rule: str) -> None:
    model = assigned(made(rule))
    with pytest.raises(UnreachableWeightError, match="the layer of first was changed") as caught:
        model(X)
    assert "<policy>:4" in str(caught.value)


def test_a_new_end_of_what_is_routed_is_refused() -> None:
    model = made("dtp")
    model.head = nn.Linear(8, 3)
    with pytest.raises(UnreachableWeightError, match="the layer of head"):
        model(X)


def test_synchronised_norms_are_refused() -> None:
    text = "version: 1\ndefault: bp\nrules: [{where: {op: norm}, rule: usf}]"
    model = fxbio.transform(Net(), fxbio.Policy.from_yaml(text), X)
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    with pytest.raises(UnreachableWeightError, match="replaced by a SyncBatchNorm"):
        model(X)


def test_an_exchange_before_compiling_is_refused() -> None:
    torch._dynamo.reset()
    run = torch.compile(assigned(made()), backend="eager")
    with pytest.raises(Exception, match=r"first\.weight was changed after transform"):
        run(X)
    torch._dynamo.reset()


def test_an_exchange_in_a_compiled_model_is_refused() -> None:
    torch._dynamo.reset()
    model = made()
    run = torch.compile(model, backend="eager")
    run(X)
    assigned(model)
    with pytest.raises(Exception, match=r"first\.weight was changed after transform"):
        run(X)
    torch._dynamo.reset()


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner: Any = None

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


def in_a_sequence(model: Any) -> None:
    model.first = nn.Sequential(model.first, nn.Identity())


def filled_later(model: Any) -> None:
    first, model.first = model.first, Wrapped()
    model.first.inner = first


def by_its_copy(model: Any) -> None:
    model.first = copy.deepcopy(model.first)


def there_and_back(model: Any) -> None:
    first, model.first = model.first, nn.Linear(6, 8)
    model.first = first


def of_another_rule(model: Any) -> None:
    model.block[0] = nn.ReLU()


KEPT = [in_a_sequence, filled_later, by_its_copy, there_and_back, of_another_rule]


@pytest.mark.parametrize("changed", KEPT, ids=lambda f: f.__name__)
def test_a_change_that_keeps_the_rules_is_none(changed: Callable[[Any], None]) -> None:
    model, expected = made(), made()
    changed(model)
    if changed is of_another_rule:
        expected.block[0] = nn.ReLU()
    for each in (model, expected):
        each(X).square().sum().backward()
    gradients = [[p.grad for p in each.parameters()] for each in (model, expected)]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_stock_models_are_left_alone() -> None:
    made()
    net = Net()
    net.first = nn.Linear(6, 8)
    net(X).sum().backward()
    assert not net.first._forward_pre_hooks
