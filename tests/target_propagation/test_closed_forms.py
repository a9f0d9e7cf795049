"""Targets and gradients of a tanh network, against the formulas of the papers written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.target_propagation.chains import Chain, mlp

ALPHA, BETA = 0.3, 0.7

Errors = list[Tensor]
"""Per sample, at the output of each of the three layers."""


def layers(chain: Chain) -> list[nn.Linear]:
    return [block[0] for block in chain.blocks]


def activations(chain: Chain, x: Tensor) -> list[Tensor]:
    one, two, three = layers(chain)
    h1 = torch.tanh(x @ one.weight.T + one.bias)
    h2 = torch.tanh(h1 @ two.weight.T + two.bias)
    return [x, h1, h2, h2 @ three.weight.T + three.bias]


def inverse(chain: Chain, layer: int) -> Callable[[Tensor], Tensor]:
    """``g(h) = tanh(V h + c)``; its input was made by tanh."""
    linear = chain.targets[layer].inverse[0]
    return lambda h: torch.tanh(h @ linear.weight.T + linear.bias)


def labels_of(chain: Chain, h: list[Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
    return F.softmax(h[3], -1), F.one_hot(y, 3).to(h[3].dtype)


def tp(chain: Chain, h: list[Tensor], y: Tensor) -> Errors:
    p, label = labels_of(chain, h, y)
    target_2 = inverse(chain, 2)(label)
    target_1 = inverse(chain, 1)(target_2)
    return [h[1] - target_1, h[2] - target_2, p - label]


def dtp(chain: Chain, h: list[Tensor], y: Tensor) -> Errors:
    p, label = labels_of(chain, h, y)
    target_2 = h[2] - ALPHA * (p - label) @ layers(chain)[2].weight
    g = inverse(chain, 1)
    target_1 = h[1] - g(h[2]) + g(target_2)
    return [h[1] - target_1, h[2] - target_2, p - label]


def sdtp(chain: Chain, h: list[Tensor], y: Tensor) -> Errors:
    p, label = labels_of(chain, h, y)
    top, g = inverse(chain, 2), inverse(chain, 1)
    target_2 = h[2] - top(p) + top(label)
    target_1 = h[1] - g(h[2]) + g(target_2)
    return [h[1] - target_1, h[2] - target_2, p - label]


def ao_sdtp(chain: Chain, h: list[Tensor], y: Tensor) -> Errors:
    p, label = labels_of(chain, h, y)
    z = torch.tanh(h[2] @ chain.targets[2].auxiliary.weight.T)
    linear = chain.targets[2].inverse[1]
    g = inverse(chain, 1)

    def top(o: Tensor) -> Tensor:
        return torch.tanh(torch.cat([o, z], 1) @ linear.weight.T + linear.bias)

    target_2 = h[2] - top(p) + top(label)
    target_1 = h[1] - g(h[2]) + g(target_2)
    return [h[1] - target_1, h[2] - target_2, p - label]


def drl(chain: Chain, h: list[Tensor], y: Tensor) -> Errors:
    p, label = labels_of(chain, h, y)
    target_3 = h[3] - BETA * (p - label)
    top, g = inverse(chain, 2), inverse(chain, 1)
    target_2 = h[2] - top(h[3]) + top(target_3)
    target_1 = h[1] - g(h[2]) + g(target_2)
    return [h[1] - target_1, h[2] - target_2, h[3] - target_3]


def l_drl(chain: Chain, h: list[Tensor], y: Tensor) -> Errors:
    """``g(h) = V tanh(h) + c``, at the output ``g(o) = V o + c``."""
    p, label = labels_of(chain, h, y)
    target_3 = h[3] - BETA * (p - label)
    top = chain.targets[2].inverse[0]
    target_2 = h[2] + (target_3 - h[3]) @ top.weight.T
    v = chain.targets[1].inverse[1].weight
    target_1 = h[1] + (torch.tanh(target_2) - torch.tanh(h[2])) @ v.T
    return [h[1] - target_1, h[2] - target_2, h[3] - target_3]


CASES = {
    "tp": (tp, {}),
    "dtp": (dtp, {"step": ALPHA}),
    "sdtp": (sdtp, {}),
    "ao-sdtp": (ao_sdtp, {"auxiliary": 7}),
    "drl": (drl, {"step": BETA}),
    "l-drl": (l_drl, {"step": BETA, "iterations": 0}),
}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("rule", CASES)
def test_gradients_are_those_of_the_targets(rule: str, reduction: str) -> None:
    errors_of, options = CASES[rule]
    chain = mlp(rule, reduction=reduction, **options)
    x, y = torch.randn(8, 6, dtype=torch.float64), torch.arange(8) % 3
    F.cross_entropy(chain(x), y, reduction=reduction).backward()
    with torch.no_grad():
        h = activations(chain, x)
        errors = errors_of(chain, h, y)
        divisor = len(x) if reduction == "mean" else 1
        for index, layer in enumerate(layers(chain)):
            # ½‖f(x) − ĥ‖² of each block by itself; the output layer is linear.
            slope = 1 - h[index + 1] ** 2 if index < 2 else 1
            expected = (errors[index] * slope).T @ h[index] / divisor
            torch.testing.assert_close(layer.weight.grad, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", CASES)
def test_targets_do_not_depend_on_the_size_of_the_batch(rule: str) -> None:
    chain = mlp(rule, **CASES[rule][1])
    x, y = torch.randn(6, 6, dtype=torch.float64), torch.arange(6) % 3

    def gradient(part: slice) -> Tensor:
        chain.zero_grad()
        F.cross_entropy(chain(x[part]), y[part]).backward()
        return layers(chain)[0].weight.grad.clone()

    parts = torch.stack([gradient(slice(0, 2)), gradient(slice(2, 4)), gradient(slice(4, 6))])
    torch.testing.assert_close(gradient(slice(None)), parts.mean(0))


def test_a_step_along_the_gradient_of_the_batch_mean_is_divided_by_the_batch() -> None:
    """Lee's step α of the gradient that autograd gives of the mean loss is ``step: α/N``."""
    x, y = torch.randn(8, 6, dtype=torch.float64), torch.arange(8) % 3
    chain = mlp("dtp", step=ALPHA / len(x))
    F.cross_entropy(chain(x), y).backward()
    h = [each.detach() for each in activations(chain, x)]
    h2 = h[2].requires_grad_()
    [gradient] = torch.autograd.grad(F.cross_entropy(layers(chain)[2](h2), y), h2)
    with torch.no_grad():
        g = inverse(chain, 1)
        error = g(h2) - g(h2 - ALPHA * gradient)
        expected = (error * (1 - h[1] ** 2)).T @ x / len(x)
    torch.testing.assert_close(layers(chain)[0].weight.grad, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("rule", CASES)
def test_the_outputs_are_those_of_the_blocks(rule: str) -> None:
    chain = mlp(rule, **CASES[rule][1])
    x = torch.randn(5, 6, dtype=torch.float64)
    assert torch.equal(chain(x), nn.Sequential(*chain.blocks)(x))


def test_penultimate_chooses_where_targets_begin() -> None:
    """``tp`` with a step of backprop and ``dtp`` from the label."""
    x, y = torch.randn(4, 6, dtype=torch.float64), torch.arange(4) % 3
    by_step, by_label = mlp("tp", penultimate="bp"), mlp("dtp", penultimate="inverse")
    assert [t.cuts for t in by_step.targets] == [False, True, False]
    assert [t.cuts for t in by_label.targets] == [False, True, True]
    F.cross_entropy(by_label(x), y).backward()
    with torch.no_grad():
        h = activations(by_label, x)
        expected = (sdtp(by_label, h, y)[0] * (1 - h[1] ** 2)).T @ x / 4
    torch.testing.assert_close(layers(by_label)[0].weight.grad, expected)
