"""The way of activations through a captured pass, and the tensors that all of it goes through."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
from torch import fx, nn

from fxbio.graph.model_graph import ModelGraph

__all__ = ["Flow", "Segment", "activation_flow"]

_SOURCE, _SINK = "<inputs>", "<output>"


@dataclass(frozen=True)
class Segment:
    """Part of a graph between two tensors that everything goes through."""

    nodes: tuple[fx.Node, ...]
    """In order of execution."""
    output: fx.Node | None
    """The tensor at its end; ``None`` where the model returns several."""


@dataclass(frozen=True)
class Flow:
    """The nodes that an error passes on its way back, cut wherever it is a single tensor."""

    nodes: tuple[fx.Node, ...]
    """In order of execution."""
    segments: tuple[Segment, ...]
    """From the input to the output; each takes the output of the one before, and nothing else."""


def activation_flow(model: nn.Module, graph: ModelGraph) -> Flow:
    """The dataflow of a pass between its parameters and its output.

    A node is part of it when it depends on an input of the model and on a parameter, and the
    output depends on it. Masks and positions, which no error reaches, are none; nor are weights
    that are computed from parameters alone.

    Args:
        model: the module that was captured.
        graph: its capture.
    """
    nodes = _carriers(model, graph.graph)
    chain = _common_nodes(nodes)
    members: dict[fx.Node | None, list[fx.Node]] = {}
    for node, end in _ends(nodes, chain).items():
        members.setdefault(end, []).append(node)
    segments = [Segment(tuple(members[end]), end) for end in (*chain, None) if end in members]
    return Flow(tuple(nodes), tuple(segments))


def _carriers(model: nn.Module, graph: fx.Graph) -> list[fx.Node]:
    from_input: set[fx.Node] = set()
    carrying: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op in ("get_attr", "output"):
            continue
        sources = node.all_input_nodes
        if node.op != "placeholder" and from_input.isdisjoint(sources):
            continue
        from_input.add(node)
        if not carrying.isdisjoint(sources) or _uses_parameter(model, node, from_input):
            carrying.add(node)
    needed = _ancestors(graph)
    return [node for node in graph.nodes if node in carrying and node in needed]


def _uses_parameter(model: nn.Module, node: fx.Node, from_input: set[fx.Node]) -> bool:
    if node.op == "call_module":
        return any(True for _ in model.get_submodule(str(node.target)).parameters())
    own = [source for source in node.all_input_nodes if source not in from_input]
    return any(_depends_on_parameter(source) for source in own)


def _depends_on_parameter(node: fx.Node) -> bool:
    """True if a node that no input enters is computed from a parameter, not from constants."""
    queue, seen = [node], {node}
    while queue:
        current = queue.pop()
        if current.meta.get("parameter"):
            return True
        fresh = [source for source in current.all_input_nodes if source not in seen]
        seen.update(fresh)
        queue += fresh
    return False


def _ancestors(graph: fx.Graph) -> set[fx.Node]:
    queue = [node for node in graph.nodes if node.op == "output"]
    seen = set(queue)
    while queue:
        fresh = [source for source in queue.pop().all_input_nodes if source not in seen]
        seen.update(fresh)
        queue += fresh
    return seen


def _graph_of(nodes: list[fx.Node]) -> nx.DiGraph:
    """The flow with one vertex before all of it and one behind."""
    members = set(nodes)
    flow = nx.DiGraph()
    flow.add_nodes_from((_SOURCE, _SINK))
    for node in nodes:
        sources = [source for source in node.all_input_nodes if source in members]
        flow.add_edges_from((source, node) for source in sources)
        if not sources:
            flow.add_edge(_SOURCE, node)
        if any(user.op == "output" for user in node.users):
            flow.add_edge(node, _SINK)
    return flow


def _common_nodes(nodes: list[fx.Node]) -> list[fx.Node]:
    """The nodes on every path, in order: the post-dominators of the source."""
    if not nodes:
        return []
    after = nx.immediate_dominators(_graph_of(nodes).reverse(copy=False), _SINK)
    chain: list[fx.Node] = []
    current = after[_SOURCE]
    while current != _SINK:
        chain.append(current)
        current = after[current]
    return chain


def _ends(nodes: list[fx.Node], chain: list[fx.Node]) -> dict[fx.Node, fx.Node | None]:
    """For every node the next one at which everything comes together again.

    The nodes are in order of execution, and no path leads around a common node, so what is
    executed between two of them and is needed by the second belongs to it.
    """
    position = {node: index for index, node in enumerate(chain)}
    members = set(nodes)
    reached: dict[fx.Node, int] = {}
    for node in reversed(nodes):
        later = [reached[user] for user in node.users if user in members]
        reached[node] = position.get(node, min(later, default=len(chain)))
    ends = (*chain, None)
    return {node: ends[reached[node]] for node in nodes}
