"""Rewritten modules show the signature of the stock forward: hosts look for names of arguments."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor, nn

import fxbio


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.raw = nn.Parameter(torch.randn(4, 4))

    def forward(self, images: Tensor, mask: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
        """The logits."""
        hidden = torch.tanh(self.first(images)) @ self.raw
        return self.last(hidden if mask is None else hidden * mask) * scale


class Chain(Net):
    def __init__(self) -> None:
        super().__init__()
        del self.raw

    def forward(self, images: Tensor, *, scale: float = 1.0) -> Tensor:
        """The logits of a chain."""
        return self.last(torch.tanh(self.first(images))) * scale


def policy(rule: str) -> fxbio.Policy:
    if rule in ("dtp", "dfa", "dgl"):  # the last layer has the error already
        return fxbio.Policy.uniform("bp").append(where={"module": "first"}, rule=rule)
    return fxbio.Policy.uniform(rule)


def faces(model: nn.Module) -> dict[str, object]:
    forwards = {path: module.forward for path, module in model.named_modules()}
    return {k: (inspect.signature(f), f.__name__, f.__doc__) for k, f in forwards.items()}


@pytest.mark.parametrize("rule", ["fa", "kp", "dfa", "dgl", "dtp"])
def test_signature_name_and_docs_are_those_of_the_stock_forward(rule: str) -> None:
    net, x = (Chain() if rule == "dtp" else Net()), torch.randn(5, 3)
    expected = faces(net)
    model = fxbio.transform(net, policy(rule), x)
    found = faces(model)
    assert {path: found[path] for path in expected} == expected
    nn.functional.cross_entropy(model(x), torch.zeros(5, dtype=torch.long)).backward()


@pytest.mark.parametrize("rule", ["usf", "dfa"])
def test_exported_programs_name_their_inputs_as_the_stock_model(rule: str) -> None:
    model = fxbio.transform(Net(), policy(rule), torch.randn(5, 3))
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(
        model, (torch.randn(5, 3),), dynamic_shapes={"images": {0: batch}}
    )
    assert exported.graph_signature.user_inputs == ("images",)
