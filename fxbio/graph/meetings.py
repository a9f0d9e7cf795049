"""Weights that the forward pass adds to, multiplies with or selects by an activation.

Gains, positions and rows that data select are read so; what comes of them is an activation.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx

from fxbio.graph.follow import giving_values
from fxbio.graph.functions import is_linear_function
from fxbio.graph.model_graph import ModelGraph

__all__ = ["applies_or_looks_up", "weights_meeting_activations"]

_LOOKUPS = (F.embedding, F.embedding_bag)


def applies_or_looks_up(function: Any) -> bool:
    """Whether a function makes an activation of a weight by definition: a layer, or a table."""
    return function in _LOOKUPS or is_linear_function(function)


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
        if activation and node.op != "output" and not applies_or_looks_up(_function(node)):
            met |= _union(found)
    return frozenset(met)


def _function(node: fx.Node) -> Any:
    return getattr(Tensor, str(node.target)) if node.op == "call_method" else node.target


def _union(found: list[frozenset[str] | None]) -> frozenset[str]:
    return frozenset().union(*(names for names in found if names is not None))
