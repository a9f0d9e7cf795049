"""One backward pass under the rules and one under backprop, with nothing left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.graph.state_guard import Snapshot, preserved
from fxbio.models.inputs import ExampleInputs
from fxbio.runtime.install import backprop
from fxbio.serialization.record import record_of
from fxbio.verification.probe import OpCall
from fxbio.verification.witness import Witness

__all__ = ["Gradients", "backprop_pass", "rule_pass"]

Gradients = dict[str, Tensor]
"""Of each parameter that has one, by its name."""


def rule_pass(
    model: nn.Module, inputs: ExampleInputs, loss: Callable[[Any], Tensor]
) -> tuple[Gradients, list[OpCall]]:
    """Gradients under the rules, and every call of a rule op with the errors that passed it."""
    witness = Witness(model, record_of(model).plan)
    with preserved(Snapshot(model, vars(inputs))):
        value = loss(witness.run(model, inputs.args, dict(inputs.kwargs)))
        with witness.probe:
            gradients = _gradients(model, value)
    return gradients, witness.probe.calls


def backprop_pass(
    model: nn.Module, inputs: ExampleInputs, loss: Callable[[Any], Tensor]
) -> tuple[Gradients, float]:
    """Gradients of the same model with its rules switched off, and the seconds that they took."""
    before = Snapshot(model, vars(inputs))
    with backprop(model), preserved(before, watched=False), torch.enable_grad():
        began = time.perf_counter()
        gradients = _gradients(model, loss(model(*inputs.args, **inputs.kwargs)))
        return gradients, time.perf_counter() - began


def _gradients(model: nn.Module, loss: Tensor) -> Gradients:
    """Without ``backward()``, so that neither ``.grad`` nor the hooks of DDP notice."""
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found: Any = torch.autograd.grad(loss, list(learning.values()), allow_unused=True)
    return {n: g.detach() for n, g in zip(learning, found, strict=True) if g is not None}
