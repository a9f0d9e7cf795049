"""Copies of models with sparse tensors, and of graphs with names and annotations."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import Tensor, fx, nn

from fxbio.graph.state_guard import state_of
from fxbio.tensors.storages import is_sparse

__all__ = ["copy_graph", "copy_model"]

M = TypeVar("M", bound=nn.Module)


def copy_model(model: M) -> M:
    """``copy.deepcopy``, also of sparse parameters and compressed tensors, which torch cannot."""
    sparse = (v for v in state_of(model) if isinstance(v, Tensor) and is_sparse(v))
    memo: dict[int, Any] = {id(tensor): _copy_sparse(tensor) for tensor in sparse}
    return copy.deepcopy(model, memo)


def _copy_sparse(tensor: Tensor) -> Tensor:
    values = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values, tensor.requires_grad)
    return values.requires_grad_(tensor.requires_grad)


def copy_graph(graph: fx.Graph) -> fx.Graph:
    """A graph with the same nodes; their ``meta`` dictionaries are copied one level deep."""
    copy = fx.Graph()
    nodes: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        nodes[node] = copy.node_copy(node, lambda source: nodes[source])
    return copy
