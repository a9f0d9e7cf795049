"""Routed rules beside others in one net."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio
from tests.routes.nets import gradients, labels, matrix, rows, transformed


def chain() -> nn.Sequential:
    """Four layers with a nonlinearity between."""
    return nn.Sequential(
        nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(),
        nn.Linear(7, 3),
    )  # fmt: skip


def test_usf_below_dfa_in_the_middle_bp_on_top() -> None:
    """The layer below learns through the one in the middle, with signs; bp sends nothing there."""
    entries = [{"where": {"module": "0"}, "rule": "usf"}, {"where": {"module": "2"}, "rule": "dfa"}]
    model, x, y = transformed(chain(), rows(), "bp", *entries), rows(), labels()
    found = gradients(model, model, x, y)
    plain = fxbio.revert(copy.deepcopy(model))
    middle = plain[3](plain[2](plain[1](plain[0](x))))
    logits = plain[4:](middle.detach())
    e = (logits.detach().softmax(-1) - F.one_hot(y, 3)) / 4
    loss = (middle * (e @ matrix(model, "2"))).sum() + F.cross_entropy(logits, y)
    for name, p in plain.named_parameters():
        wanted = torch.autograd.grad(loss, p, retain_graph=True)[0]
        torch.testing.assert_close(found[name], wanted)
    assert fxbio.verify(model).ok


def test_fa_inside_of_a_dfa_block() -> None:
    net = nn.Sequential()
    net.add_module("trunk", chain()[:6])
    net.add_module("head", nn.Linear(7, 3))
    block: dict[str, Any] = {"at": "block", "block": "trunk"}
    entries = [
        {"where": {"module": "trunk.**"}, "rule": "dfa", "with": block},
        {"where": {"module": "trunk.2"}, "rule": "fa"},
    ]
    model, x, y = transformed(net, rows(), "bp", *entries), rows(), labels()
    found = gradients(model, model, x, y)
    feedback = fxbio.feedback_weights(model)["trunk.2.weight"]
    plain: Any = fxbio.revert(copy.deepcopy(model))
    low = plain.trunk[1](plain.trunk[0](x))
    carrier = F.linear(low, feedback)
    exact = plain.trunk[2](low.detach())
    top = plain.trunk[3:](exact + (carrier - carrier.detach()))
    logits = plain.head(top.detach())
    e = (logits.detach().softmax(-1) - F.one_hot(y, 3)) / 4
    loss = (top * (e @ matrix(model, "trunk"))).sum() + F.cross_entropy(logits, y)
    for name, p in plain.named_parameters():
        wanted = torch.autograd.grad(loss, p, retain_graph=True)[0]
        torch.testing.assert_close(found[name], wanted, msg=lambda t, n=name: f"{n}: {t}")
    assert fxbio.verify(model).ok


def test_dfa_and_drtp_side_by_side() -> None:
    entries = [{"where": {"module": "2"}, "rule": "drtp"}]
    model = transformed(chain(), rows(), "dfa", *entries)
    found = fxbio.verify(model)
    assert found.ok, found
    rules = {row.site: row.rule for row in found.rows}
    assert rules == {"0": "dfa", "2": "drtp", "4": "dfa", "6": "dfa"}


def test_a_layer_that_is_called_twice_receives_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.layer(torch.tanh(self.layer(x))))
            result: Tensor = self.last(h)
            return result

    model, x, y = transformed(Twice(), rows()), rows(), labels()
    found = gradients(model, model, x, y)
    plain: Any = fxbio.revert(copy.deepcopy(model))
    one = torch.tanh(plain.layer(x))
    two = torch.tanh(plain.layer(one.detach()))
    e = (plain.last(two).detach().softmax(-1) - F.one_hot(y, 3)) / 4
    wanted = torch.autograd.grad(
        ((one + two) * (e @ matrix(model, "layer"))).sum(), plain.layer.weight
    )
    torch.testing.assert_close(found["layer.weight"], wanted[0])
