"""Rules that learn from the labels: drtp, and the classifiers of dgl."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio
from fxbio.errors import ModelError, PolicyError
from fxbio.ops.labels import recovered_labels
from tests.routes.nets import (
    Convolutions,
    Perceptron,
    gradients,
    images,
    labels,
    matrix,
    rows,
    transformed,
)

HARD = F.one_hot(labels(), 3).float()
KINDS = {
    "hard": HARD,
    "smoothed": HARD * 0.9 + 0.1 / 3,
    "mixed": 0.7 * HARD + 0.3 * HARD.flip(0),
}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_recovered(kind: str, reduction: str) -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = F.cross_entropy(logits, KINDS[kind], reduction=reduction)
    error = torch.autograd.grad(loss, logits)[0]
    found = recovered_labels(logits.detach(), error, reduction == "mean")
    torch.testing.assert_close(found, KINDS[kind])


@pytest.mark.parametrize("rule", ["drtp", "dgl"])
def test_labels_have_the_precision_of_the_model(rule: str) -> None:
    """Against gradients of the labels themselves, which float32 would miss by 1e-8 and more."""
    model, x = transformed(Perceptron().double(), rows().double(), rule), rows().double()
    F.cross_entropy(model(x), labels()).backward()
    plain = fxbio.revert(copy.deepcopy(model))
    receiver = torch.relu(plain.first(x))
    if rule == "drtp":
        loss = (receiver * (HARD.double() @ matrix(model, "first") / 4)).sum()
    else:
        [(weight, bias)] = heads(model, "first")
        loss = F.cross_entropy(F.linear(receiver, weight.detach(), bias.detach()), labels())
    wanted = torch.autograd.grad(loss, plain.first.weight)[0]
    torch.testing.assert_close(model.first.weight.grad, wanted, rtol=1e-12, atol=1e-15)
    assert fxbio.verify(model).ok


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_drtp_sends_the_labels(kind: str, reduction: str) -> None:
    model, x = transformed(Perceptron(), rows(), "drtp", reduction=reduction), rows()
    F.cross_entropy(model(x), KINDS[kind], reduction=reduction).backward()
    plain = fxbio.revert(copy.deepcopy(model))
    receiver = torch.relu(plain.first(x))
    at = KINDS[kind] @ matrix(model, "first") / (4 if reduction == "mean" else 1)
    wanted = torch.autograd.grad((receiver * at).sum(), plain.first.weight)[0]
    torch.testing.assert_close(model.first.weight.grad, wanted)


def heads(model: Any, unit: str) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each layer of the classifier of a unit."""
    head = model._fxbio_binding.routes.units[unit].head
    return [(getattr(model, w), getattr(model, b)) for w, b in head.layers]


@pytest.mark.parametrize("hidden", [0, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_dgl_learns_from_an_auxiliary_cross_entropy(kind: str, hidden: int) -> None:
    model, x = transformed(Convolutions(), images(), "dgl", hidden=hidden), images()
    F.cross_entropy(model(x), KINDS[kind]).backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    layers = {unit: heads(model, unit) for unit in ("one", "two")}
    plain: Any = copy.deepcopy(model)
    fxbio.revert(plain)
    one = torch.relu(plain.norm(plain.one(x)))
    two = torch.relu(plain.two(F.max_pool2d(one.detach(), 2)))
    loss = F.cross_entropy(plain.last(two.detach().mean((2, 3))), KINDS[kind])
    for unit, h in (("one", one), ("two", two)):
        out = F.adaptive_avg_pool2d(h, 2).flatten(1)
        for place, (weight, bias) in enumerate(layers[unit]):
            out = F.linear(torch.relu(out) if place else out, weight, bias)
        loss = loss + F.cross_entropy(out, KINDS[kind])
    for p in model.parameters():
        p.grad = None
    loss.backward()
    for name, p in plain.named_parameters():
        torch.testing.assert_close(found[name], p.grad, msg=lambda t, n=name: f"{n}: {t}")
    for name, p in model.named_parameters():
        if "fxbio_head" in name:
            torch.testing.assert_close(found[name], p.grad, msg=lambda t, n=name: f"{n}: {t}")


def test_heads_learn_with_the_ordinary_optimizer() -> None:
    model, x = transformed(Perceptron(), rows(), "dgl"), rows()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for _ in range(3):
        gradients(model, model, x)
        optimizer.step()
    assert all(not torch.equal(before[n], p) for n, p in model.named_parameters())


def test_labels_that_are_none_are_refused() -> None:
    model = transformed(Perceptron(), rows(), "drtp")
    with pytest.raises(ModelError, match="cannot be recovered"):
        F.mse_loss(model(rows()), torch.randn(4, 3)).backward()
    with pytest.raises(ModelError, match="cannot be recovered"):
        (F.cross_entropy(model(rows()), labels()) * 65536).backward()
    with pytest.raises(ModelError, match="cannot be recovered"):
        F.cross_entropy(model(rows()), labels(), reduction="sum").backward()


@pytest.mark.parametrize("rule", ["drtp", "dgl"])
def test_float16_is_refused(rule: str) -> None:
    model = transformed(Perceptron(), rows(), rule)
    with torch.autocast("cpu", torch.float16), pytest.raises(ModelError, match="float16") as caught:
        model(rows())
    assert "bfloat16" in str(caught.value)
    assert "default" in str(caught.value)
    with torch.autocast("cpu", torch.bfloat16):
        gradients(model, model, rows())


def test_dfa_works_under_a_scaler() -> None:
    model, x = transformed(Perceptron(), rows()), rows()
    wanted = {n: g.clone() for n, g in gradients(model, model, x).items() if g is not None}
    model.zero_grad()
    (F.cross_entropy(model(x), labels()) * 1024).backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad / 1024, wanted[name])


def test_labels_need_one_output_per_sample() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(PolicyError, match=r"labels are recovered from .* \(N, K\)"):
        transformed(net, torch.randn(2, 5, 6), "drtp")
