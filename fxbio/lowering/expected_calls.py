"""Expected calls: what a forward pass of the installed model meets, read off the lowered graph."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.lowering.lowered_graph import LoweredGraph
from fxbio.ops.functional import broadcast
from fxbio.target_propagation.connect_block import connect_block

__all__ = ["ExpectedCalls", "expected_calls"]


@dataclass(frozen=True)
class ExpectedCalls:
    """The nodes of the way back, by what a running model shows of them."""

    rules: frozenset[tuple[str, str]]
    """Parameter and spec string of the rule that it is applied with."""
    ports: frozenset[str]
    """Units at which the error of a source enters."""
    blocks: frozenset[str]
    """Blocks that are connected to a target."""


def expected_calls(lowered: LoweredGraph) -> ExpectedCalls:
    """Calls that the graph predicts for a pass of the same control flow."""
    ruled = [node for node in lowered.graph.nodes if "spec" in node.meta]
    sources = lowered.graph.find_nodes(op="call_function", target=broadcast)
    connected = lowered.graph.find_nodes(op="call_function", target=connect_block)
    return ExpectedCalls(
        rules=frozenset(
            (parameter, node.meta["spec"])
            for node in ruled
            for parameter in lowered.captured.site(node.meta["site"]).sources
        ),
        ports=frozenset(port.meta["unit"] for source in sources for port in source.args[1]),
        blocks=frozenset(node.meta["block"] for node in connected),
    )
