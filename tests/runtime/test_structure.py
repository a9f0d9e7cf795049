"""Layers that are changed or exchanged after transform: said at the next call, or by verify."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import fxbio
from fxbio.errors import UnreachableWeightError

Change = Callable[[nn.Module], Any]


class Own(nn.Linear):
    """A layer with a forward of its own, which runs in a scope."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)


CHANGES: dict[str, Change] = {
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),
    "weight_norm": parametrizations.weight_norm,
    "orthogonal": parametrizations.orthogonal,
    "spectral_norm": parametrizations.spectral_norm,
}


def made(rule: str, layer: type[nn.Linear] = nn.Linear) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(5, 6)
    net = nn.Sequential(layer(6, 8), nn.Tanh(), layer(8, 3))
    text = f"version: 1\ndefault: {rule}\n"
    return fxbio.transform(net, fxbio.Policy.from_yaml(text), x), x


@pytest.mark.parametrize("layer", [nn.Linear, Own])
@pytest.mark.parametrize("rule", ["fa", "brsf", "kp", "frozen"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_layer_is_refused_and_reverted(
    change: Change, rule: str, layer: type[nn.Linear]
) -> None:
    model, x = made(rule, layer)
    change(model[2])
    expected = F.linear(torch.tanh(F.linear(x, model[0].weight, model[0].bias)), model[2].weight)
    with pytest.raises(UnreachableWeightError) as caught:
        model(x)
    text = str(caught.value)
    assert "the layer of 2.weight was changed after transform: 'weight' is now made of" in text
    assert "<policy>:2" in text
    assert "fxbio.revert(model) first, change the layer" in text
    found = fxbio.verify(model)
    assert not found.ok
    assert [row.site for row in found.rows] == ["2"]
    assert "0 of 1 rewritten sites follow" in str(found)
    with fxbio.backprop(model):
        out = model(x)
        torch.testing.assert_close(out - model[2].bias, expected, rtol=1e-4, atol=1e-4)
        out.sum().backward()
    reverted = fxbio.revert(model)
    reverted.zero_grad()
    reverted(x).sum().backward()
    assert all(p.grad is not None for p in reverted.parameters())
    assert not any(name.startswith("fxbio") for name, _ in reverted.named_buffers())


@pytest.mark.parametrize("rule", ["fa", "brsf", "kp", "frozen", "dfa"])
@pytest.mark.parametrize(
    "layer",
    [lambda: nn.Linear(6, 8), lambda: nn.Sequential(nn.Linear(6, 8)), lambda: nn.LazyLinear(8)],
)
def test_verify_finds_an_exchanged_layer(rule: str, layer: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), torch.randn(5, 6)
    entry = f"version: 1\ndefault: bp\nrules:\n  - {{where: {{module: '0'}}, rule: {rule}}}\n"
    model: Any = fxbio.transform(net, fxbio.Policy.from_yaml(entry), x)
    setattr(model, "0", layer())
    found = fxbio.verify(model)
    assert not found.ok
    assert [row.site for row in found.rows] == ["0"]
    assert "replaced by" in str(found.rows[0].problem)
    fxbio.revert(model)(x).sum().backward()


def test_verify_finds_a_forward_that_was_put_on_a_layer() -> None:
    model, _ = made("fa")
    layer = model[2]
    layer.forward = lambda x: F.linear(x, layer.weight, layer.bias)
    found = fxbio.verify(model)
    assert not found.ok
    assert [row.problem for row in found.rows if not row.ok] == ["its rule was never run"]


@pytest.mark.parametrize("change", list(CHANGES.values())[:2], ids=list(CHANGES)[:2])
def test_a_change_before_transform_is_none(change: Change) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), torch.randn(5, 6)
    change(net[2])
    model = fxbio.transform(net, fxbio.Policy.uniform("fa"), x, inplace=True)
    model(x).sum().backward()
    assert fxbio.verify(model).ok
