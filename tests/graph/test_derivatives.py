"""Forwards that take derivatives themselves: outputs stay bitwise those of the original."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import fxbio
from fxbio.errors import CaptureError, UnreachableWeightError

Energy = Callable[[Tensor], Tensor]
Force = Callable[[Energy, Tensor], Tensor]


class Net(nn.Module):
    """An encoder, the derivative of an energy by what it puts out, and a decoder."""

    def __init__(self, force: Force) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(3, 3), nn.Linear(3, 2)
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 1)
        self.force = force

    def energy(self, h: Tensor) -> Tensor:
        out: Tensor = self.second(torch.tanh(self.first(h)))
        return out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.force(self.energy, self.encoder(x)))
        return out


def by_grad(energy: Energy, h: Tensor) -> Tensor:
    (force,) = torch.autograd.grad(energy(h).sum(), h, create_graph=True)
    return force


def by_grad_of_a_leaf(energy: Energy, h: Tensor) -> Tensor:
    leaf = h.detach().requires_grad_()
    return h + by_grad(energy, leaf)


def by_jacobian(energy: Energy, h: Tensor) -> Tensor:
    found: Tensor = torch.autograd.functional.jacobian(
        lambda h: energy(h).sum(), h, create_graph=True
    )
    return found


def by_backward(energy: Energy, h: Tensor) -> Tensor:
    leaf = h.detach().requires_grad_()
    energy(leaf).sum().backward()
    assert leaf.grad is not None
    return h + leaf.grad


def by_function_backward(energy: Energy, h: Tensor) -> Tensor:
    leaf = h.detach().requires_grad_()
    torch.autograd.backward(energy(leaf).sum(), inputs=[leaf])
    assert leaf.grad is not None
    return h + leaf.grad


REVERSE = [by_grad, by_grad_of_a_leaf, by_jacobian, by_backward, by_function_backward]


@pytest.mark.parametrize("rule", ["fa", "kp", "usf", "stop"])
@pytest.mark.parametrize("force", REVERSE, ids=lambda force: force.__name__)
def test_outputs_are_bitwise_the_same(force: Force, rule: str) -> None:
    torch.manual_seed(0)
    model, x = Net(force), torch.randn(4, 3)
    policy = fxbio.Policy.uniform(rule)
    rules = {a.site.name: a.rule for a in fxbio.plan(model, policy, x).assignments}
    assert rules == {"encoder": rule, "first": "bp", "second": "bp", "decoder": rule}
    transformed = fxbio.transform(model, policy, x)
    assert torch.equal(model(x), transformed(x))
    assert fxbio.verify(transformed).ok


@pytest.mark.parametrize("force", REVERSE, ids=lambda force: force.__name__)
def test_an_entry_for_a_crossed_layer_is_refused_with_the_line(force: Force) -> None:
    policy = fxbio.Policy.uniform("bp").append(where={"module": "first"}, rule="fa")
    with pytest.raises(
        UnreachableWeightError, match=r"takes a derivative .*test_derivatives.py:\d"
    ):
        fxbio.plan(Net(force), policy, torch.randn(4, 3))


@pytest.mark.parametrize("rule", ["dfa", "dtp"])
def test_rules_that_cut_the_way_back_are_refused(rule: str) -> None:
    with pytest.raises(
        UnreachableWeightError, match=r"derivative itself[^$]*test_derivatives.py:\d"
    ):
        fxbio.transform(Net(by_grad), fxbio.Policy.uniform(rule), torch.randn(4, 3))


def by_func_grad(energy: Energy, h: Tensor) -> Tensor:
    found: Tensor = torch.func.grad(lambda h: energy(h).sum())(h)
    return found


def by_vjp(energy: Energy, h: Tensor) -> Tensor:
    out, back = torch.func.vjp(energy, h)
    found: Tensor = back(torch.ones_like(out))[0]
    return found


def by_jacrev(energy: Energy, h: Tensor) -> Tensor:
    found: Tensor = torch.func.jacrev(lambda h: energy(h).sum())(h)
    return found


def by_jvp(energy: Energy, h: Tensor) -> Tensor:
    _, tangent = torch.func.jvp(energy, (h,), (torch.ones_like(h),))
    return h + tangent


def by_dual_numbers(energy: Energy, h: Tensor) -> Tensor:
    with forward_ad.dual_level():
        dual = energy(forward_ad.make_dual(h, torch.ones_like(h)))
        return h + forward_ad.unpack_dual(dual).tangent


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch.func.jvp, once
@pytest.mark.parametrize("force", [by_func_grad, by_vjp, by_jacrev, by_jvp, by_dual_numbers])
def test_what_capture_cannot_follow_is_refused_with_the_line(force: Force) -> None:
    with pytest.raises(
        CaptureError, match=r"derivative[^$]*test_derivatives.py:\d+[^$]*create_graph"
    ):
        fxbio.transform(Net(force), fxbio.Policy.uniform("fa"), torch.randn(4, 3))


class InnerLoop(Net):
    """A step of learning inside of the forward, as in meta-learning."""

    def forward(self, x: Tensor) -> Tensor:
        loss = self.energy(self.encoder(x)).square().mean()
        (step,) = torch.autograd.grad(loss, self.first.weight, create_graph=True)
        out: Tensor = self.decoder(x @ (step.t() @ step))
        return out


class UsedTwice(Net):
    """One of two uses of the weights lies outside of what is differentiated."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.energy(x)


@pytest.mark.parametrize("net", [InnerLoop, UsedTwice], ids=lambda net: net.__name__)
def test_weights_that_a_derivative_crosses_keep_backprop_everywhere(net: type[Net]) -> None:
    torch.manual_seed(0)
    model, x = net(by_grad), torch.randn(4, 3)
    policy = fxbio.Policy.uniform("fa")
    kept = {a.site.weight for a in fxbio.plan(model, policy, x).assignments if a.rule == "bp"}
    assert kept == {"first.weight", "second.weight"}
    assert torch.equal(model(x), fxbio.transform(model, policy, x)(x))
