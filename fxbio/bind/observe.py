"""What one forward pass of a marked model shows: who receives, in what shape, and from whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.bind.binding import Routes, Unit
from fxbio.bind.broadcast_scope import BroadcastScope, Flow
from fxbio.graph.grad_mode import learning
from fxbio.graph.capture import run_for_structure
from fxbio.graph.inputs import ExampleInputs

__all__ = ["Observed", "observe"]

Shape = tuple[int, ...]


@dataclass
class Observed:
    """Shapes and ways of one forward pass."""

    receivers: dict[str, set[Shape]] = field(default_factory=dict)
    """Shapes of what received, by the name of the unit."""
    sources: dict[str, set[Shape]] = field(default_factory=dict)
    """Shapes of the outputs whose error is sent, by the name of the source."""
    above: set[tuple[str, str]] = field(default_factory=set)
    """Source and unit, where the source is computed from what received."""
    exact: set[str] = field(default_factory=set)
    """Units that no other layer stands between and a source."""
    joined: dict[str, str] = field(default_factory=dict)
    """Units that run into one tensor with another unit, which receives for both."""
    without_history: set[str] = field(default_factory=set)
    """Units whose receivers nothing learns below."""


class _ObservingScope(BroadcastScope):
    """Notes shapes; cuts nothing off, so that the ways to the sources can be seen."""

    def __init__(self, model: nn.Module, routes: Routes) -> None:
        super().__init__(model, routes)
        self.observed = Observed()
        self._nodes: list[tuple[str, Any]] = []

    def _at_source(self, tensor: Tensor, name: str) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        seen = self.observed
        seen.sources.setdefault(name, set()).add(tuple(tensor.shape))
        below = _history(tensor.grad_fn)
        seen.above |= {(name, unit) for unit, node in self._nodes if node in below}
        flows = self._flows_of((tensor,))
        seen.exact |= {flow.unit.name for flow in flows if not flow.read_by_layer}
        return tensor

    def _receive(self, flows: list[Flow], tensor: Tensor) -> Tensor:
        out = super()._receive(flows, tensor)
        first = self.received[-1].unit.name
        others = [flow.unit.name for flow in flows if flow.unit.name != first]
        self.observed.joined.update(dict.fromkeys(others, first))
        return out

    def _note(self, unit: Unit, tensor: Tensor) -> None:
        super()._note(unit, tensor)
        self.observed.receivers.setdefault(unit.name, set()).add(tuple(tensor.shape))
        if tensor.grad_fn is None:
            self.observed.without_history.add(unit.name)
        else:
            self._nodes.append((unit.name, tensor.grad_fn))

    def _check(self) -> None:
        """Nothing is delivered yet."""

    def _cut(self, tensor: Tensor, flows: list[Flow]) -> Tensor:
        twin = tensor.view_as(tensor)
        self._follow(twin, flows)
        return twin


def observe(model: nn.Module, routes: Routes, inputs: ExampleInputs) -> Observed:
    """Run a model whose units are marked, and see what would receive and what would send.

    Raises:
        PolicyError: when the error of the output is asked for, and there are several outputs.
    """

    def run(args: Any, kwargs: Any) -> Observed:
        scope = _ObservingScope(model, routes)
        frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
        with torch.enable_grad(), learning(frozen):  # it may be thawed later
            with scope:
                out = model(*args, **kwargs)
            scope.finish(out)
        return scope.observed

    return run_for_structure(model, inputs, run)


def _history(node: Any) -> set[Any]:
    """All nodes of the autograd graph below one, itself included."""
    seen: set[Any] = set()
    open_ = [node]
    while open_:
        here = open_.pop()
        if here is None or here in seen:
            continue
        seen.add(here)
        open_ += [below for below, _ in here.next_functions]
    return seen
