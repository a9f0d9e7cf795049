"""The lowered graph: a captured forward pass with the way back of a plan written into it."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from fxbio.graph.extract import extracted
from fxbio.graph.model_graph import ModelGraph
from fxbio.graph.trace import ModuleCall
from fxbio.runtime.binding import BoundWeight
from fxbio.semantics.error_routing import Unit

__all__ = ["LoweredGraph", "Receiver", "Source", "qualified"]


_OF_A_VALUE = ("shape", "dtype", "requires_grad", "grad_enabled", "path", "call")
"""Annotations of a captured node that hold for others of the same value at the same place."""


@dataclass(frozen=True)
class Receiver:
    """A node at which the error of a unit enters."""

    unit: str
    node: fx.Node


@dataclass(frozen=True)
class Source:
    """A node whose error is sent to receivers in front of it."""

    name: str
    """Path of the module; empty for the output of the model."""
    node: fx.Node
    """An identity, through which whatever reads the source goes."""
    received: tuple[Receiver, ...]
    """What has received before, in order of execution."""


@dataclass
class LoweredGraph:
    """The program. Passes rewrite ``graph`` and enter here what it refers to.

    Nodes that were captured keep their identity and name, so that an interval of nodes stays the
    body of its module whatever is inserted into it.
    """

    captured: ModelGraph
    graph: fx.Graph
    """The whole pass, with the nodes of ``fxbio.ops`` in it."""
    order: tuple[fx.Node, ...]
    """The captured nodes, which the intervals of ``calls`` count."""
    calls: list[ModuleCall]
    """Calls of modules that are no leaves."""
    state: dict[str, Tensor] = field(default_factory=dict)
    """Feedback, matrices and heads by the qualified names under which modules will hold them;
    parameters are what learns."""
    modules: dict[str, nn.Module] = field(default_factory=dict)
    """Learned inverses, likewise."""
    bodies: dict[str, fx.Graph] = field(default_factory=dict)
    """Forward of each block that learns from targets, which its inverse's loss runs again."""
    weights: dict[str, list[BoundWeight]] = field(default_factory=dict)
    """Weights that have a feedback, by the path of the module whose forward applies them."""
    frozen: dict[str, list[str]] = field(default_factory=dict)
    """Attributes of parameters that their rule does not train, likewise."""
    units: dict[str, Unit] = field(default_factory=dict)
    """Layers and blocks whose error is routed, by path."""
    source_paths: tuple[str, ...] = ()
    """Paths of the modules whose output's error is sent; empty for the model's output."""
    sources: list[Source] = field(default_factory=list)
    begins: dict[str, str] = field(default_factory=dict)
    """Path of the inverse of each block, by the path of the module that the block begins with."""
    target_ends: list[str] = field(default_factory=list)
    """Modules of other rules whose input is the output of such a block."""

    @classmethod
    def of(cls, captured: ModelGraph) -> LoweredGraph:
        """A copy of the captured graph, in which nothing is lowered yet."""
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for node in captured.graph.nodes:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        calls = [
            replace(
                call,
                inputs=map_arg(call.inputs, copies.__getitem__),
                output=map_arg(call.output, copies.__getitem__),
            )
            for call in captured.calls
        ]
        return cls(captured, graph, tuple(copies[node] for node in captured.order), calls)

    def node(self, name: str) -> fx.Node:
        """The captured node of that name.

        Raises:
            KeyError: if there is none.
        """
        for node in self.order:
            if node.name == name:
                return node
        raise KeyError(name)

    @property
    def output(self) -> fx.Node:
        """The node of what the model returns."""
        node: fx.Node = next(iter(self.graph.find_nodes(op="output")))
        return node

    def attribute(self, name: str) -> fx.Node:
        """A node in front of all others that reads a tensor or module which lowering adds."""
        known: dict[Any, fx.Node] = {n.target: n for n in self.graph.find_nodes(op="get_attr")}
        if name in known:
            return known[name]
        with self.graph.inserting_before(next(iter(self.graph.nodes))):
            return self.graph.create_node("get_attr", name)

    def insert_before(
        self, place: fx.Node, function: Any, args: tuple[Any, ...], like: fx.Node, **meta: Any
    ) -> fx.Node:
        """A call of a function of ``fxbio`` in front of another node.

        Args:
            place: the node behind it.
            function: what it calls.
            args: nodes and constants.
            like: a node whose value has the shape and dtype of the result.
            **meta: annotations of the new node.
        """
        with self.graph.inserting_before(place):
            made = self.graph.call_function(function, args)
        made.meta = {key: like.meta[key] for key in _OF_A_VALUE if key in like.meta} | meta
        return made

    def replace(self, node: fx.Node, new: fx.Node, but_in: Container[fx.Node] = ()) -> None:
        """Have all read another node, those in a set excepted, and modules return it."""
        node.replace_all_uses_with(new, delete_user_cb=lambda user: user not in but_in)

        def now(n: fx.Node) -> fx.Node:
            return new if n is node else n

        self.calls = [
            replace(call, inputs=map_arg(call.inputs, now), output=map_arg(call.output, now))
            for call in self.calls
        ]

    def drop_sources(self) -> None:
        """Take the identities at sources away: everything has been sent."""
        for source in self.sources:
            sent = source.node.args[0]
            assert isinstance(sent, fx.Node)
            self.replace(source.node, sent)
            self.graph.erase_node(source.node)
        self.sources = []

    def islands(self) -> dict[str, fx.Graph]:
        """The forward of each island, by the path of its module."""
        return {island.path: self.body(island.call) for island in self.captured.islands}

    def body(self, index: int) -> fx.Graph:
        """Graph of what a call of a module executed, with its inputs as placeholders."""
        call = self.calls[index]
        own = self.order[call.start : call.end]
        inputs = self.graph.find_nodes(op="placeholder") if call.parent is None else ()
        return extracted(self._with_inserted(call, own), call.output, inputs)

    def _with_inserted(self, call: ModuleCall, own: Sequence[fx.Node]) -> list[fx.Node]:
        """Captured nodes of a call with what was inserted among, in front of and behind them.

        At the two ends, nodes of the neighbours stand in the same place: in front only what the
        call reads is its own, and behind only what reads from it.
        """
        nodes = list(self.graph.nodes)
        at = {node: place for place, node in enumerate(nodes)}
        start = at[self.order[call.start - 1]] + 1 if call.start else 0
        end = at[self.order[call.end]] if call.end < len(self.order) else at[self.output]
        if not own:
            return nodes[start:end]
        first, last = at[own[0]], at[own[-1]] + 1
        body = nodes[first:last]
        for node in reversed(nodes[start:first]):
            if not set(node.users).isdisjoint(body):
                body.insert(0, node)
        for node in nodes[last:end]:
            if not set(node.all_input_nodes).isdisjoint(body):
                body.append(node)
        return body


def qualified(path: str, name: str) -> str:
    """Name of an attribute of a module from the model's root."""
    return f"{path}.{name}" if path else name
