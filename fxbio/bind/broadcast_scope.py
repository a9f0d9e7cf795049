"""The scope in which errors are broadcast: it cuts the sequential path and notes who receives.

While the forward of the model runs, the modules that take part mark their inputs and outputs. What
a marked layer put out is followed through whatever is done to it, up to the first nonlinearity or
the next layer: there it receives, and what goes on from there is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from fxbio.bind.binding import Routes, Unit
from fxbio.bind.deliver import (
    Received,
    check_delivered,
    check_frozen,
    check_single,
    deliver,
    receive,
)
from fxbio.errors import ModelError
from fxbio.graph.activations import ACTIVATIONS
from fxbio.graph.layer_calls import applies_layer
from fxbio.ops.cut import cut
from fxbio.ops.mark import ENTER, LEAVE

__all__ = ["BroadcastScope", "Flow"]


@dataclass(eq=False)
class Flow:
    """One call of a unit, and what its output became."""

    unit: Unit
    received: bool = False
    read_by_layer: bool = False
    """Whether another layer, ruled or not, reads what it became."""


class BroadcastScope(TorchFunctionMode):
    """Follows the outputs of marked layers to where they receive."""

    def __init__(self, model: nn.Module, routes: Routes) -> None:
        super().__init__()
        self.received: list[Received] = []
        """In order of execution."""
        self.without_gradients: set[str] = set()
        """Marked modules that ran under ``torch.no_grad()``."""
        self._model = model
        self._routes = routes
        self._followed: dict[Tensor, list[Flow]] = {}  # a tensor hashes by identity
        self._entered: list[str] = []
        self._ran: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.fxbio.mark.default:
            answer = self._on_mark(*args)
            return func(*args) if answer is None else answer
        flows = self._flows_of((*args, *kwargs.values()))
        if not flows:
            return func(*args, **kwargs)
        if applies_layer(func, args):
            args, kwargs = tree_map_only(Tensor, self._read, (args, kwargs))
            return func(*args, **kwargs)
        if any(flow.received for flow in flows):
            args, kwargs = tree_map_only(Tensor, self._cut_spent, (args, kwargs))
            flows = self._flows_of((*args, *kwargs.values()))
        out = func(*args, **kwargs)
        pending = [flow for flow in flows if not flow.received]
        if pending and func in ACTIVATIONS:
            return self._receive(pending, out)
        self._follow(out, pending or flows)
        return out

    def finish(self, out: Any) -> Any:
        """The output of the model, with its error on the way to what has received.

        Raises:
            PolicyError: when it is to be sent, and is not a single tensor.
            ModelError: when something has received and will get nothing.
        """
        if "" in self._routes.sources:
            check_single(self._routes, out)
            out = tree_map_only(Tensor, lambda tensor: self._at_source(tensor, ""), out)
        self._check()
        return out

    def _check(self) -> None:
        check_delivered(self._routes, self.received, self._ran)
        received = {item.unit.name for item in self.received}
        for name in sorted(self.without_gradients - received):
            check_frozen(self._routes, name, self._model.get_submodule(name))

    def _on_mark(self, tensor: Tensor, event: str, name: str) -> Tensor | None:
        """What goes on from a mark, or ``None`` for one that is not of this scope."""
        if event not in (ENTER, LEAVE):
            return self._at_source(tensor, name)
        unit = self._routes.units.get(name)
        if unit is None:
            return None
        return self._enter(unit, tensor) if event == ENTER else self._leave(unit, tensor)

    def _enter(self, unit: Unit, tensor: Tensor) -> Tensor:
        self._entered.append(unit.name)
        tensor = self._read(tensor)
        if unit.point == "input":
            self._note(unit, tensor)
            return self._cut(tensor, [])
        flows = self._flows_of((tensor,))
        return self._cut(tensor, flows) if flows else tensor

    def _leave(self, unit: Unit, tensor: Tensor) -> Tensor:
        if unit.name not in self._entered:
            raise ModelError(
                f"'{unit.name}' takes no tensor or returns several: which would receive the error?",
                notes=[f"decided by {unit.decided_by}"],
                help="route the error of modules that take a tensor and return a single one",
            )
        self._entered.remove(unit.name)
        if unit.point == "block":
            return self._receive([Flow(unit)], tensor)
        if unit.point == "activation":
            self._follow(tensor, [Flow(unit)])
        return tensor

    def _at_source(self, tensor: Tensor, name: str) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        self._ran.append(name)
        return deliver(self._routes, self.received, tensor, name)

    def _read(self, tensor: Tensor) -> Tensor:
        """A tensor as the next layer sees it: what has not received so far does so here."""
        flows = self._flows_of((tensor,))
        pending = [flow for flow in flows if not flow.received]
        if pending:
            tensor = self._receive(pending, tensor)
        for flow in flows:
            flow.read_by_layer = True
        return self._cut_spent(tensor)

    def _receive(self, flows: list[Flow], tensor: Tensor) -> Tensor:
        """What goes on from a tensor that receives for the first of some units."""
        for flow in flows:
            flow.received = True
        unit = min((flow.unit for flow in flows), key=lambda unit: unit.order)
        self._note(unit, tensor)
        if unit.cut:
            return self._cut(tensor, flows)
        self._follow(tensor, flows)
        return tensor

    def _note(self, unit: Unit, tensor: Tensor) -> None:
        self.received.append(receive(self._model, self._routes, unit, tensor))

    def _cut(self, tensor: Tensor, flows: list[Flow]) -> Tensor:
        """The tensor for those who may send nothing back to the given flows."""
        return cut(tensor)

    def _cut_spent(self, tensor: Tensor) -> Tensor:
        """The tensor, cut off if one that it came from has received and lets nothing else back."""
        flows = self._flows_of((tensor,))
        spent = any(flow.received and flow.unit.cut for flow in flows)
        return self._cut(tensor, flows) if spent else tensor

    def _flows_of(self, values: Any) -> list[Flow]:
        """The flows whose tensors are among values, or in containers there."""
        found: list[Flow] = []
        for value in values:
            if isinstance(value, tuple | list):
                found += [flow for flow in self._flows_of(value) if flow not in found]
            elif isinstance(value, Tensor):
                known = self._followed.get(value, ())
                found += [flow for flow in known if flow not in found]
        return found

    def _follow(self, out: Any, flows: list[Flow]) -> None:
        if isinstance(out, tuple | list):
            for item in out:
                self._follow(item, flows)
        elif isinstance(out, Tensor) and out.is_floating_point():
            known = self._followed.get(out, [])
            self._followed[out] = known + [flow for flow in flows if flow not in known]
