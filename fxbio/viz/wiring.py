"""The forward path between boxes, read off the dataflow of the captured pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import networkx as nx
from torch import fx

from fxbio.graph.model_graph import ModelGraph
from fxbio.viz.boxes import Box
from fxbio.viz.module_blocks import path_of, with_parents

__all__ = ["INPUT", "OUTPUT", "Wiring", "wire"]

INPUT, OUTPUT = "<input>", "<output>"

_SIGNS = {"add": "+", "iadd": "+", "sub": "−", "mul": "×", "imul": "×", "cat": "cat"}


@dataclass
class Wiring:
    """Boxes, and joins where tensors from several of them meet, in a graph."""

    graph: nx.DiGraph
    """Vertices are keys of boxes, ``INPUT``, ``OUTPUT`` and names of joins; each has its position
    in the order of execution as ``order``."""
    flow: tuple[fx.Node, ...]
    """The nodes of the pass that carry activations which learning depends on."""
    home: dict[fx.Node, str] = field(default_factory=dict)
    """Vertex at first of every node of the flow: a node that only passes on is at home with its
    source."""
    joins: dict[str, str] = field(default_factory=dict)
    """What is written on each join."""
    merged: dict[str, str] = field(default_factory=dict)
    """Vertices that are gone, and which stand for them."""

    def vertex_of(self, node: fx.Node) -> str:
        """The vertex that stands for a node of the flow."""
        vertex = self.home[node]
        while vertex in self.merged:
            vertex = self.merged[vertex]
        return vertex

    def merge_into_output(self) -> None:
        """Merge all behind the last weights, the arithmetic of a loss, into the output."""
        for join in reversed(list(self.joins)):
            if set(self.graph.successors(join)) <= {OUTPUT}:
                self.merge(join, OUTPUT)

    def merge(self, vertex: str, into: str) -> None:
        """Let one vertex stand for another as well."""
        graph = self.graph
        graph.add_edges_from((into, s) for s in list(graph.successors(vertex)) if s != into)
        graph.add_edges_from((p, into) for p in list(graph.predecessors(vertex)) if p != into)
        graph.remove_node(vertex)
        self.joins.pop(vertex, None)
        self.merged[vertex] = into


def wire(flow: tuple[fx.Node, ...], graph: ModelGraph, boxes: Iterable[Box]) -> Wiring:
    """Find out which box feeds which.

    Boxes that the pass does not lead through are vertices without edges.

    Args:
        flow: the nodes that carry activations, in order of execution.
        graph: the captured pass.
        boxes: what is to be connected.
    """
    boxes = tuple(boxes)
    owner = _owners(graph, flow, boxes)
    wiring = Wiring(nx.DiGraph(), flow)
    wiring.graph.add_node(INPUT, order=-1)
    _place_boxes(wiring, boxes, owner)
    for order, node in enumerate(flow):
        _connect(wiring, node, owner.get(node), order)
    wiring.graph.add_node(OUTPUT, order=len(flow) + len(boxes))
    for node in graph.graph.nodes:
        if node.op == "output":
            sources = (wiring.home[s] for s in node.all_input_nodes if s in wiring.home)
            wiring.graph.add_edges_from((s, OUTPUT) for s in sources if s != OUTPUT)
    _contract_joins(wiring)
    return wiring


def _owners(graph: ModelGraph, flow: Iterable[fx.Node], boxes: Iterable[Box]) -> dict[fx.Node, str]:
    """The box of every node that belongs to one."""
    members = set(flow)
    owner: dict[fx.Node, str] = {}
    for box in boxes:
        for a in box.ruled:
            node = graph.nodes.get(a.site.name)
            if node in members:
                owner[node] = box.key
    modules = {box.module: box.key for box in boxes if box.module is not None}
    for node in flow:
        around = [path for path in with_parents(path_of(node)) if path in modules]
        if around:
            owner[node] = modules[around[-1]]
    return owner


def _place_boxes(wiring: Wiring, boxes: tuple[Box, ...], owner: dict[fx.Node, str]) -> None:
    order: dict[str, int] = {}
    for position, node in enumerate(wiring.flow):
        if node in owner:
            order.setdefault(owner[node], position)
    for number, box in enumerate(boxes):
        wiring.graph.add_node(box.key, order=order.get(box.key, len(wiring.flow) + number))


def _connect(wiring: Wiring, node: fx.Node, vertex: str | None, order: int) -> None:
    """Note where a node is at home, and which vertices feed it."""
    sources = list(
        dict.fromkeys(wiring.home[s] for s in node.all_input_nodes if s in wiring.home)
    ) or [INPUT]
    if vertex is None and len(sources) == 1:
        wiring.home[node] = sources[0]
        return
    if vertex is None:
        vertex = f"join {node.name}"
        wiring.graph.add_node(vertex, order=order)
        wiring.joins[vertex] = _SIGNS.get(_function(node), "•")
    wiring.home[node] = vertex
    wiring.graph.add_edges_from((source, vertex) for source in sources if source != vertex)


def _function(node: fx.Node) -> str:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return str(name).rstrip("_")


def _contract_joins(wiring: Wiring) -> None:
    """A join that feeds nothing but another join, as queries and keys do, is part of it."""
    for join in list(wiring.joins):
        following = list(wiring.graph.successors(join))
        if len(following) == 1 and following[0] in wiring.joins:
            wiring.merge(join, following[0])
