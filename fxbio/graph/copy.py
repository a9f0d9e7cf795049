"""Copies of graphs that keep names and annotations."""

from __future__ import annotations

from torch import fx

__all__ = ["copy_graph"]


def copy_graph(graph: fx.Graph) -> fx.Graph:
    """A graph with the same nodes; their ``meta`` dictionaries are copied one level deep."""
    copy = fx.Graph()
    nodes: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        nodes[node] = copy.node_copy(node, lambda source: nodes[source])
    return copy
