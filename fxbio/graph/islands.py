"""Islands: the parts of a recorded pass that any input of the same shapes would run alike."""

from __future__ import annotations

from torch import fx

from fxbio.graph.model_graph import Island
from fxbio.graph.recording import ModuleCall, Recording

__all__ = ["find_islands"]


def find_islands(recording: Recording) -> tuple[Island, ...]:
    """The largest modules without eager code in them, each with the graph of its first call."""
    eager = {part.path for part in recording.opaque if not part.weights}
    broken = {path for part in eager for path in _with_ancestors(part)}
    islands: dict[str, Island] = {}
    inside: set[int] = set()
    for index, call in enumerate(recording.calls):
        if call.parent in inside:
            inside.add(index)
        elif call.path not in broken:
            inside.add(index)
            islands.setdefault(call.path, Island(call.path, _cut(recording, call)))
    return tuple(islands.values())


def _with_ancestors(path: str) -> list[str]:
    parts = path.split(".") if path else []
    return [".".join(parts[:k]) for k in range(len(parts) + 1)]


def _cut(recording: Recording, call: ModuleCall) -> fx.Graph:
    """Copy the interval of one call into a graph of its own, inputs made placeholders."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    body = recording.nodes[call.start : call.end]
    members = set(body)

    def outside(node: fx.Node) -> fx.Node:
        if node not in copies:
            copies[node] = _import(graph, node)
        return copies[node]

    for source in sorted(_inputs(recording, call, body, members)):
        outside(source)
    for node in body:
        if node.op == "placeholder":
            outside(node)
            continue
        copies[node] = graph.node_copy(node, outside)
    graph.output(fx.map_arg(call.output, outside))
    return graph


def _inputs(
    recording: Recording, call: ModuleCall, body: list[fx.Node], members: set[fx.Node]
) -> set[fx.Node]:
    """The nodes that a call takes from outside; of the root all inputs, used or not."""
    found = {source for node in body for source in node.all_input_nodes}
    fx.map_arg(call.output, found.add)
    found -= members
    if call.parent is None:
        found |= {node for node in recording.nodes[: call.start] if node.op == "placeholder"}
    return {node for node in found if node.op != "get_attr"}


def _import(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """A node from outside of the interval: a parameter stays one, all else is an input."""
    if node.op == "get_attr":
        return graph.node_copy(node)
    copy = graph.create_node("placeholder", node.name)
    # What was a site out there is an input in here.
    copy.meta = {key: value for key, value in node.meta.items() if key not in ("site", "operand")}
    return copy
