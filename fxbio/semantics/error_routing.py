"""Error routing: where errors enter, and which tensors are cut, as a forward pass goes on.

One semantics for two carriers: the scope that runs a model follows tensors, the compiler follows
the nodes of a captured graph. What a routed unit puts out is followed through whatever is done to
it, up to the first nonlinearity or the next layer: there it receives, and what goes on from there
is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from fxbio.errors import ModelError, PolicyError

__all__ = ["CallKind", "ErrorRouter", "Flow", "Head", "Unit", "check_single_output"]

V = TypeVar("V")
CallKind = Literal["layer", "activation", "other"]
"""Of a function: it applies a weight, it is an elementwise nonlinearity, or neither."""


@dataclass(frozen=True)
class Head:
    """The classifier that a unit learns from: parameters of the model.

    They are no module, because containers such as ``nn.Sequential`` run every module in them.
    """

    channel_dim: int
    pooled: tuple[int, ...]
    """Positions by dimension that it sees."""
    layers: tuple[tuple[str, str], ...]
    """Attributes with the weight and the bias of each layer."""


@dataclass(frozen=True)
class Unit:
    """A layer or block whose error is routed."""

    name: str
    """Its path."""
    order: int
    """Position in order of execution; where two units run into one tensor the first receives."""
    point: str
    """Where it receives: ``activation``, ``input`` or ``block``; ``exact`` where the error of the
    source reaches it by itself."""
    cut: bool
    """Whether nothing else that reads what has received sends an error back."""
    decided_by: str
    """The line of the policy."""
    head: Head | None = None
    """The classifier that it learns from."""
    served_by: str | None = None
    """Unit that receives for it, where both run into one tensor."""


@dataclass(eq=False)
class Flow:
    """One call of a unit, and what its output became."""

    unit: Unit
    received: bool = False
    read_by_layer: bool = False
    """Whether another layer, ruled or not, reads what it became."""


class ErrorRouter(Generic[V]):
    """Follows the outputs of routed units to where they receive.

    Subclasses say what the values are: how a tensor is cut, and what happens where one receives.
    """

    def __init__(self, units: Mapping[str, Unit]) -> None:
        self._units = units
        self._flows: dict[V, list[Flow]] = {}  # a tensor hashes by identity, and so does a node
        self._entered: list[str] = []
        self.left: list[tuple[Flow, V]] = []
        """What layers put out, followed to where it receives."""

    # Of the carrier

    def values_in(self, structure: Any) -> Iterator[V]:
        """The values among arguments or results, in containers too."""
        raise NotImplementedError

    def replaced(self, structure: Any, change: Callable[[V], V]) -> Any:
        """A structure with its values changed."""
        raise NotImplementedError

    def is_followed(self, value: V) -> bool:
        """True if gradients exist for values of this dtype."""
        raise NotImplementedError

    def stop(self, value: V, flows: list[Flow]) -> V:
        """The value without its history, for those who may send nothing back to the flows."""
        raise NotImplementedError

    def note_receiver(self, unit: Unit, value: V) -> None:
        """Note that a value receives the error of a unit."""
        raise NotImplementedError

    # Semantics

    def on_call(self, kind: CallKind, args: Any, run: Callable[[Any], Any]) -> Any:
        """The result of a function, which reads its arguments as this routing has them.

        Args:
            kind: of the function.
            args: whatever structure holds its arguments.
            run: calls the function on a structure like ``args``.
        """
        flows = self.flows_of(args)
        if not flows:
            return run(args)
        if kind == "layer":
            return run(self.replaced(args, self._read))
        if any(flow.received for flow in flows):
            args = self.replaced(args, self._cut_spent)
            flows = self.flows_of(args)
        out = run(args)
        pending = [flow for flow in flows if not flow.received]
        if pending and kind == "activation":
            return self._receive(pending, out)
        self.follow(out, pending or flows)
        return out

    def enter(self, name: str, value: V) -> V:
        """Input of a module as the module is to see it."""
        unit = self._units[name]
        self._entered.append(name)
        value = self._read(value)
        if unit.point == "input":
            self.note_receiver(unit, value)
            return self.stop(value, [])
        flows = self.flows_of((value,))
        return self.stop(value, flows) if flows else value

    def leave(self, name: str, value: V) -> V:
        """Output of a module as others are to see it.

        Raises:
            ModelError: where the module takes no tensor, or returns several.
        """
        unit = self._units[name]
        if name not in self._entered:
            raise ModelError(
                f"'{name}' takes no tensor or returns several: which would receive the error?",
                notes=[f"decided by {unit.decided_by}"],
                help="route the error of modules that take a tensor and return a single one",
            )
        self._entered.remove(name)
        if unit.point == "block":
            return self._receive([Flow(unit)], value)
        if unit.point == "activation":
            self.left.append((Flow(unit), value))
            self.follow(value, [self.left[-1][0]])
        return value

    def flows_of(self, structure: Any) -> list[Flow]:
        """The flows whose values are in a structure."""
        known = (self._flows.get(value, ()) for value in self.values_in(structure))
        return list(dict.fromkeys(flow for flows in known for flow in flows))

    def follow(self, out: Any, flows: Iterable[Flow]) -> None:
        """Go on with flows at the values of a result."""
        for value in self.values_in(out):
            if self.is_followed(value):
                known = self._flows.get(value, [])
                self._flows[value] = list(dict.fromkeys([*known, *flows]))

    def _read(self, value: V) -> V:
        """A value as the next layer sees it: what has not received so far does so here."""
        flows = self.flows_of((value,))
        pending = [flow for flow in flows if not flow.received]
        if pending:
            value = self._receive(pending, value)
        for flow in flows:
            flow.read_by_layer = True
        return self._cut_spent(value)

    def _receive(self, flows: list[Flow], value: V) -> V:
        """Value behind a receiver, which receives for the first of some units."""
        for flow in flows:
            flow.received = True
        unit = min((flow.unit for flow in flows), key=lambda unit: unit.order)
        self.note_receiver(unit, value)
        self.note_joined(unit, [flow.unit for flow in flows if flow.unit is not unit])
        if unit.cut:
            return self.stop(value, flows)
        self.follow(value, flows)
        return value

    def note_joined(self, unit: Unit, others: list[Unit]) -> None:
        """Note that a unit receives for others, which run into the same value."""

    def _cut_spent(self, value: V) -> V:
        """The value, cut off if one that it came from has received and lets nothing else back."""
        flows = self.flows_of((value,))
        spent = any(flow.received and flow.unit.cut for flow in flows)
        return self.stop(value, flows) if spent else value


def check_single_output(units: Mapping[str, Unit], output_type: str, tensors: int) -> None:
    """Check that a model returns one tensor, whose error can be sent.

    Args:
        units: of the model.
        output_type: name of the class of what it returns.
        tensors: how many floating-point tensors that holds.

    Raises:
        PolicyError: when it returns none or several.
    """
    if tensors == 1:
        return
    asking = next(iter(units.values()))
    raise PolicyError(
        f"the model returns {output_type} with {tensors} tensors of real numbers: "
        "which error is to be sent?",
        notes=[f"'{asking.name}' asks for the error of the output, decided by {asking.decided_by}"],
        help="name the modules whose outputs the loss is made of: with: {source: [head]}",
    )
