"""Weights that the forward pass adds to, multiplies with or selects by an activation.

Gains, positions and rows that data select are read so; what comes of them is an activation.
"""

from __future__ import annotations

from torch import fx

from fxbio.graph.model_graph import ModelGraph
from fxbio.semantics.applied import applies_or_looks_up
from fxbio.semantics.weight_provenance import called_function, giving_values

__all__ = ["weights_meeting_activations"]


def weights_meeting_activations(captured: ModelGraph) -> frozenset[str]:
    """The parameters that a function other than a layer or a table took with an activation.

    Each stands for all that is computed from it, up to such a function.
    """
    layers = set(captured.nodes.values())
    sources: dict[fx.Node, frozenset[str] | None] = {}
    """What a node is computed from; None for an activation."""
    met: set[str] = set()
    for node in captured.graph.nodes:
        if node.op == "get_attr":
            sources[node] = frozenset({str(node.target)})
            continue
        found = [sources[n] for n in giving_values(node.target, node.all_input_nodes)]
        activation = node.op == "placeholder" or node in layers or None in found
        sources[node] = None if activation else _union(found)
        if activation and node.op != "output" and not applies_or_looks_up(called_function(node)):
            met |= _union(found)
    return frozenset(met)


def _union(found: list[frozenset[str] | None]) -> frozenset[str]:
    return frozenset().union(*(names for names in found if names is not None))
