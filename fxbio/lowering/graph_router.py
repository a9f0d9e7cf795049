"""Error routing along a captured graph: the nodes at which errors enter, and those that are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn
from torch.fx.node import map_arg

from fxbio.graph.trace import ModuleCall
from fxbio.lowering.lowered_graph import LoweredGraph
from fxbio.semantics.activations import ACTIVATIONS, is_activation_layer
from fxbio.semantics.error_routing import CallKind, ErrorRouter, Flow, Unit
from fxbio.semantics.functions import applies_layer
from fxbio.semantics.leaves import linear_leaf_kind
from fxbio.semantics.weight_provenance import called_function

__all__ = ["GraphRouter", "Receivers", "call_kind", "find_receivers"]

Shape = tuple[int, ...]


class GraphRouter(ErrorRouter[fx.Node]):
    """Walks a captured graph in order of execution, module call by module call.

    What a node reads is exchanged as the routing says; subclasses say with what.
    """

    def __init__(
        self,
        model: nn.Module,
        graph: LoweredGraph,
        units: Mapping[str, Unit],
        sources: tuple[str, ...],
    ) -> None:
        super().__init__(units)
        self._model = model
        self._graph = graph
        self._sources = sources
        self._nodes = graph.order
        self._now: dict[fx.Node, fx.Node] = {}
        """What stands for a node at present, where that is another one."""

    def at_source(self, node: fx.Node, name: str) -> fx.Node:
        """Node that goes on from the output of a source."""
        raise NotImplementedError

    def at_position(self, node: fx.Node | None) -> None:
        """New nodes are to stand in front of this one from now on, or at the end."""

    def note_output(self, index: int, output: Any) -> None:
        """Note the node that a module call returns to its caller now."""

    def route(self) -> None:
        """Walk the whole graph."""
        children: dict[int | None, list[int]] = {}
        for index, call in enumerate(self._graph.calls):
            children.setdefault(call.parent, []).append(index)
        self._walk(0, len(self._nodes), None, children)

    def _walk(self, at: int, end: int, parent: int | None, children: Any) -> None:
        for index in children.get(parent, ()):
            call = self._graph.calls[index]
            self._walk_nodes(at, call.start)
            self._walk_call(call, index, children)
            at = call.end
        self._walk_nodes(at, end)

    def _walk_call(self, call: ModuleCall, index: int, children: Any) -> None:
        self.at_position(self._nodes[call.start] if call.start < len(self._nodes) else None)
        entered = self._enter_module(call.path, call.inputs) if call.grad_enabled else {}
        before = {node: self._now.get(node) for node in entered}
        self._now |= entered
        self._walk(call.start, call.end, index, children)
        for node, value in before.items():
            if value is None:
                self._now.pop(node, None)
            else:
                self._now[node] = value
        self.at_position(self._nodes[call.end] if call.end < len(self._nodes) else None)
        if call.grad_enabled:
            self._leave_module(call.path, call.output)
        self.note_output(index, self.replaced(call.output, self._present))

    def _enter_module(self, path: str, inputs: Any) -> dict[fx.Node, fx.Node]:
        """Replacements in the body of a module for its first tensor, where they differ."""
        if path not in self._units:
            return {}
        given = list(self.values_in(inputs))
        if not given:
            return {}
        first = next(filter(self.is_followed, given), given[0])
        value = self._present(first)
        seen = self.enter(path, value)
        return {} if seen is value else {first: seen}

    def _leave_module(self, path: str, output: Any) -> None:
        for node in list(self.values_in(output)):
            if path in self._units and self.is_followed(node):
                self._now[node] = self.leave(path, self._present(node))
            if path and path in self._sources and self.is_followed(node):
                self._now[node] = self.at_source(self._present(node), path)

    def _walk_nodes(self, start: int, end: int) -> None:
        for index in range(start, end):
            node = self._nodes[index]
            if node.op in ("placeholder", "get_attr"):
                continue
            self._walk_node(node, self._nodes[index + 1] if index + 1 < len(self._nodes) else None)

    def _walk_node(self, node: fx.Node, following: fx.Node | None) -> None:
        self.at_position(node)
        arguments = map_arg((node.args, node.kwargs), self._present)
        marked = node.op == "call_module" and node.meta["grad_enabled"]
        leaf = str(node.target) if marked else ""
        if leaf:
            entered = self._enter_module(leaf, (node.args, node.kwargs))
            arguments = map_arg(
                (node.args, node.kwargs), lambda n: entered.get(n, self._present(n))
            )

        def run(arguments: Any) -> fx.Node:
            node.args, node.kwargs = arguments
            self.at_position(following)
            return node

        out = self.on_call(call_kind(self._model, node), arguments, run)
        if out is not node:
            self._now[node] = out
        if leaf:
            self._leave_module(leaf, node)

    def _present(self, node: fx.Node) -> fx.Node:
        return self._now.get(node, node)

    # What the values are

    def values_in(self, structure: Any) -> Iterator[fx.Node]:
        found: dict[fx.Node, None] = {}
        map_arg(structure, lambda node: found.setdefault(node))
        return iter(found)

    def replaced(self, structure: Any, change: Callable[[fx.Node], fx.Node]) -> Any:
        return map_arg(structure, change)

    def is_followed(self, value: fx.Node) -> bool:
        dtype = value.meta.get("dtype")
        return dtype is None or dtype.is_floating_point


def call_kind(model: nn.Module, node: fx.Node) -> CallKind:
    """Kind of a node in the routing of errors."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if linear_leaf_kind(module) is not None:
            return "layer"
        return "activation" if is_activation_layer(module) else "other"
    function = called_function(node)
    if applies_layer(function, node.args, node.kwargs, _is_parameter):
        return "layer"
    return "activation" if function in ACTIVATIONS else "other"


def _is_parameter(value: Any) -> bool:
    return isinstance(value, fx.Node) and bool(value.meta.get("parameter"))


@dataclass
class Receivers:
    """Receivers in a captured graph, with their shapes and the sources of their errors."""

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


class _Finder(GraphRouter):
    """Notes receivers and changes nothing, so that the ways to the sources can be seen."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.found = Receivers()
        self._received: list[tuple[str, fx.Node]] = []

    def stop(self, value: fx.Node, flows: list[Flow]) -> fx.Node:
        self.follow(value, flows)
        return value

    def note_receiver(self, unit: Unit, value: fx.Node) -> None:
        self.found.receivers.setdefault(unit.name, set()).add(value.meta["shape"])
        if value.meta.get("requires_grad"):
            self._received.append((unit.name, value))
        else:
            self.found.without_history.add(unit.name)

    def note_joined(self, unit: Unit, others: list[Unit]) -> None:
        self.found.joined.update({o.name: unit.name for o in others if o.name != unit.name})

    def at_source(self, node: fx.Node, name: str) -> fx.Node:
        found = self.found
        found.sources.setdefault(name, set()).add(node.meta["shape"])
        below = _history(node)
        found.above |= {(name, unit) for unit, value in self._received if value in below}
        found.exact |= {f.unit.name for f in self.flows_of((node,)) if not f.read_by_layer}
        return node


def find_receivers(
    model: nn.Module, graph: LoweredGraph, units: Mapping[str, Unit], sources: tuple[str, ...]
) -> Receivers:
    """Receivers of the errors of units, read off the graph."""
    finder = _Finder(model, graph, units, sources)
    finder.route()
    if "" in sources:
        for node in list(finder.values_in(graph.output.args)):
            if finder.is_followed(node):
                finder.at_source(node, "")
    return finder.found


def _history(node: fx.Node) -> set[fx.Node]:
    """The nodes that gradients of one reach, itself included."""
    seen: set[fx.Node] = set()
    open_ = [node]
    while open_:
        here = open_.pop()
        if here in seen or here.meta.get("requires_grad") is False:
            continue
        seen.add(here)
        open_ += [*here.all_input_nodes, *(user for user in here.users if _writes(user, here))]
    return seen


def _writes(node: fx.Node, into: fx.Node) -> bool:
    """True if a node writes into the tensor of another one and returns nothing."""
    name = str(getattr(node.target, "__name__", node.target))
    return name in ("__setitem__", "setitem", "copy_") and node.args[0] is into
