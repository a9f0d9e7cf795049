"""Parts of a graph as graphs of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import fx
from torch.fx.node import map_arg

__all__ = ["extracted"]


def extracted(body: Iterable[fx.Node], output: Any, inputs: Iterable[fx.Node] = ()) -> fx.Graph:
    """A graph of its own from consecutive nodes of another.

    Args:
        body: in order of execution.
        output: structure of nodes that is returned.
        inputs: nodes that become the first placeholders, whether or not they are read; what else is
            read from outside does so behind them.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    inner = [node for node in body if node.op != "placeholder"]
    members = set(inner)
    read = dict.fromkeys(source for node in inner for source in node.all_input_nodes)
    map_arg(output, read.setdefault)
    outside = [node for node in read if node not in members and node.op != "get_attr"]
    for node in dict.fromkeys([*inputs, *sorted(outside)]):
        copies[node] = placeholder_for(graph, node)

    def copied(node: fx.Node) -> fx.Node:
        if node not in copies:  # a parameter that was read before the body began
            copies[node] = graph.node_copy(node)
        return copies[node]

    for node in inner:
        copies[node] = graph.node_copy(node, copied)
    graph.output(map_arg(output, copied))
    return graph


_OF_A_SITE = ("site", "operand", "rule")


def placeholder_for(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """A placeholder that stands for a node outside of a graph."""
    made = graph.create_node("placeholder", node.name)
    # What was a site out there is an input in here.
    made.meta = {key: value for key, value in node.meta.items() if key not in _OF_A_SITE}
    return made
