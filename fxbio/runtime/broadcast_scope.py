"""The scope that routes errors while the forward of the model runs.

The modules that take part mark their inputs and outputs; where errors enter and what is cut is for
``fxbio.semantics.error_routing`` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from fxbio.ops.mark import ENTER, LEAVE
from fxbio.ops.stop_gradient import cut
from fxbio.runtime.binding import Routes
from fxbio.runtime.error_delivery import (
    Received,
    check_delivered,
    check_frozen,
    check_received,
    check_single,
    deliver,
    receive,
)
from fxbio.runtime.tensor_scope import TensorScope, operands_in
from fxbio.semantics.activations import ACTIVATIONS
from fxbio.semantics.error_routing import CallKind, ErrorRouter, Flow, Unit
from fxbio.semantics.functions import applies_layer

__all__ = ["BroadcastScope"]


class BroadcastScope(TensorScope, ErrorRouter[Tensor]):
    """Follows the outputs of marked layers to where they receive."""

    def __init__(self, model: nn.Module, routes: Routes) -> None:
        TensorScope.__init__(self)
        ErrorRouter.__init__(self, routes.units)
        self.received: list[Received] = []
        """In order of execution."""
        self.without_gradients: set[str] = set()
        """Marked modules that ran under ``torch.no_grad()``."""
        self._model = model
        self._routes = routes
        self._ran: list[str] = []

    def on_function(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Cut what has received, and follow the rest."""
        return self.on_call(
            _kind_of(func, args, kwargs),
            (args, kwargs),
            lambda operands: func(*operands[0], **operands[1]),
        )

    def finish(self, out: Any) -> Any:
        """The output of the model, with its error on the way to what has received.

        Raises:
            PolicyError: when it is to be sent, and is not a single tensor.
            ModelError: when something has received and will get nothing.
        """
        if "" in self._routes.sources:
            check_single(self._routes, out)
            out = tree_map_only(Tensor, lambda tensor: self._at_source(tensor, ""), out)
        check_delivered(self._routes, self.received, self._ran)
        check_received(flow.unit for flow, x in self.left if x.requires_grad and not flow.received)
        received = {item.unit.name for item in self.received}
        for name in sorted(self.without_gradients - received):
            check_frozen(self._routes, name, self._model.get_submodule(name))
        return out

    def on_mark(self, tensor: Tensor, event: str, name: str) -> Tensor | None:
        """Let a unit receive or pass; send the error at a source."""
        if event not in (ENTER, LEAVE):
            return self._at_source(tensor, name)
        if name not in self._routes.units:
            return None
        return self.enter(name, tensor) if event == ENTER else self.leave(name, tensor)

    def _at_source(self, tensor: Tensor, name: str) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        self._ran.append(name)
        return deliver(self._routes, self.received, tensor, name)

    # What the values are

    def values_in(self, structure: Any) -> Iterator[Tensor]:
        return operands_in(structure)

    def replaced(self, structure: Any, change: Callable[[Tensor], Tensor]) -> Any:
        return tree_map_only(Tensor, change, structure)

    def is_followed(self, value: Tensor) -> bool:
        return value.is_floating_point()

    def stop(self, value: Tensor, flows: list[Flow]) -> Tensor:
        return cut(value)

    def note_receiver(self, unit: Unit, value: Tensor) -> None:
        self.received.append(receive(self._model, self._routes, unit, value))


def _kind_of(func: Any, args: Any, kwargs: Any) -> CallKind:
    if applies_layer(func, args, kwargs):
        return "layer"
    return "activation" if func in ACTIVATIONS else "other"
