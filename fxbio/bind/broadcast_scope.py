"""The scope in which errors are broadcast: it cuts the sequential path and notes who receives.

While the forward of the model runs, the modules that take part mark their inputs and outputs. What
a marked layer put out is followed through whatever is done to it, up to the first nonlinearity:
there it receives, and what goes on from there is cut off. At the source of the error the
``broadcast`` op is given all that has received.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fxbio.bind.binding import Delivery, Routes, Unit
from fxbio.graph.activations import ACTIVATIONS
from fxbio.ops.broadcast import broadcast
from fxbio.ops.mark import ENTER, LEAVE

__all__ = ["BroadcastScope", "Received", "deliver"]


class Received(NamedTuple):
    """A tensor that is to receive an error."""

    unit: str
    """Name of the layer or block that it belongs to."""
    tensor: Tensor
    """Its value, with its history."""
    entry: Tensor
    """What the error is sent to: the tensor, or what a classifier makes of it."""


class BroadcastScope(TorchFunctionMode):
    """Follows the outputs of marked layers to where they receive."""

    def __init__(self, model: nn.Module, routes: Routes, received: list[Received]) -> None:
        super().__init__()
        self._model = model
        self._routes = routes
        self._received = received
        self._open: list[tuple[Tensor, Unit]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.fxbio.mark.default:
            answer = self._on_mark(*args)
            return func(*args) if answer is None else answer
        unit = self._unit_of((*args, *kwargs.values()))
        out = func(*args, **kwargs)
        if unit is None:
            return out
        if func in ACTIVATIONS:
            return self._receive(unit, out)
        self._follow(unit, out)
        return out

    def _on_mark(self, tensor: Tensor, event: str, name: str) -> Tensor | None:
        """What goes on from a mark, or ``None`` for one that is not of this scope."""
        if event in (ENTER, LEAVE):
            unit = self._routes.units.get(name)
            if unit is None:
                return None
            return self._enter(unit, tensor) if event == ENTER else self._leave(unit, tensor)
        return self._at_source(tensor, name)

    def _enter(self, unit: Unit, tensor: Tensor) -> Tensor:
        before = self._unit_of((tensor,))
        if before is not None:
            tensor = self._receive(before, tensor)
        if unit.point == "input":
            return self._receive(unit, tensor)
        if any(r.tensor is tensor for r in self._received):
            return tensor.detach()  # it is not cut for its other readers
        return tensor

    def _leave(self, unit: Unit, tensor: Tensor) -> Tensor:
        if unit.point == "block":
            return self._receive(unit, tensor)
        if unit.point == "activation":
            self._open.append((tensor, unit))
        return tensor

    def _at_source(self, tensor: Tensor, name: str) -> Tensor:
        return deliver(self._model, self._routes, self._received, tensor, name)

    def _receive(self, unit: Unit, tensor: Tensor) -> Tensor:
        head = None if unit.head is None else getattr(self._model, unit.head)
        entry = tensor if head is None else head(tensor)
        self._received.append(Received(unit.name, tensor, entry))
        keeps_path = unit.point == "activation" and not unit.cut
        return tensor if keeps_path else tensor.detach()

    def _unit_of(self, values: Any) -> Unit | None:
        """The first unit in order of execution whose output is among values, or in lists there."""
        found: Unit | None = None
        for value in values:
            if isinstance(value, tuple | list):
                inner = self._unit_of(value)
                if inner is not None and (found is None or inner.order < found.order):
                    found = inner
            elif isinstance(value, Tensor):
                for tensor, unit in self._open:
                    if tensor is value and (found is None or unit.order < found.order):
                        found = unit
        return found

    def _follow(self, unit: Unit, out: Any) -> None:
        if isinstance(out, tuple | list):
            for item in out:
                self._follow(unit, item)
        elif isinstance(out, Tensor) and out.is_floating_point():
            self._open.append((out, unit))


def deliver(
    model: nn.Module, routes: Routes, received: list[Received], output: Tensor, source: str
) -> Tensor:
    """The output of a source, whose error will reach what has received so far.

    Args:
        model: holds the feedback matrices.
        routes: what is sent where.
        received: in order of execution.
        output: of the source.
        source: its name, empty for the model itself.
    """
    groups: dict[tuple[bool, bool], list[tuple[Received, Delivery]]] = {}
    for item in received:
        delivery = routes.deliveries.get((source, item.unit))
        if delivery is not None:
            way = (delivery.targets, delivery.mean)
            groups.setdefault(way, []).append((item, delivery))
    for (targets, mean), pairs in groups.items():
        entries = [item.entry for item, _ in pairs]
        matrices = [getattr(model, delivery.matrix) for _, delivery in pairs]
        names = ";".join(item.unit for item, _ in pairs)
        projections = ";".join(delivery.projection for _, delivery in pairs)
        output = broadcast(output, entries, matrices, names, projections, targets, mean)
    return output
