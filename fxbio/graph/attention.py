"""Module calls inside of attention layers."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx

from fxbio.graph.trace import Recording

__all__ = ["attention_calls"]

_PRODUCTS = {"matmul", "bmm", "einsum", "baddbmm"}
_STEPS_TO_PRODUCT = 5
"""Between the softmax and the product there may be a dropout, a cast, a reshape."""


def attention_calls(recording: Recording) -> set[int | None]:
    """Indices of the module calls that lie inside an attention layer.

    An attention layer is the innermost module that runs an attention core, and every module
    around it whose class says so (``BertAttention`` around ``BertSelfAttention``).
    """
    roots = {node.meta["call"] for node in recording.nodes if _is_core(node)} - {None}
    for root in tuple(roots):
        parent = recording.calls[root].parent
        while parent is not None and "attention" in recording.calls[parent].type.lower():
            roots.add(parent)
            parent = recording.calls[parent].parent
    inside: set[int | None] = set()
    for index, call in enumerate(recording.calls):
        if index in roots or (call.parent is not None and call.parent in inside):
            inside.add(index)
    return inside


def _is_core(node: fx.Node) -> bool:
    """The fused function, or a softmax whose result is multiplied."""
    name = _function_name(node)
    if name == "scaled_dot_product_attention":
        return True
    return name in ("softmax", "Softmax") and _feeds_product(node.users, _STEPS_TO_PRODUCT)


def _feeds_product(nodes: Iterable[fx.Node], steps: int) -> bool:
    if steps == 0:
        return False
    return any(
        _function_name(node) in _PRODUCTS or _feeds_product(node.users, steps - 1) for node in nodes
    )


def _function_name(node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.meta.get("type", ""))
    return str(getattr(node.target, "__name__", node.target))
