"""Following the entries of a parameter to the operation that applies them.

A chunk of a weight takes the chunk of its feedback, a transposed weight the transposed feedback:
what a function that only moves entries does to a weight, it does to the feedback. Arithmetic
between weights keeps the feedback of the operand whose shape the result has, as in weight
standardisation or ``W + B A``. Otherwise the result is a new weight with feedback of its own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, fx

__all__ = ["REINDEXING", "followed_parameter", "giving_values", "is_reindexing"]


def _functions(*names: str) -> list[Callable[..., Any]]:
    found = [getattr(home, name, None) for name in names for home in (Tensor, torch)]
    return [function for function in found if function is not None]


REINDEXING = frozenset(
    [
        *_functions("chunk", "split", "unbind", "t", "transpose", "permute", "movedim", "swapaxes"),
        *_functions("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "narrow"),
        *_functions("select", "expand", "contiguous", "clone", "detach", "cat", "stack", "flip"),
        *_functions("roll", "tensor_split", "split_with_sizes", "index_select", "swapdims"),
        *_functions("to", "type_as", "float", "half", "bfloat16", "double", "moveaxis", "repeat"),
        operator.getitem,  # so does a strict export call the method
        *_functions("__getitem__", "concat", "concatenate", "view_as", "reshape_as"),
        *(vars(torch._C.TensorBase)[name].__get__ for name in ("T", "mT")),
        *(torch.ops.aten.numpy_T, torch.ops.aten.mT),  # what torch.compile makes of these two
    ]
)
"""Functions that only move, repeat or cast entries."""


_OF_THE_FIRST = {"to", "type_as", "view_as", "reshape_as", "expand_as"}
_OF_NONE = {
    *("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like"),
    *("randint_like", "new_empty", "new_zeros", "new_ones", "new_full", "new_tensor"),
}
"""Functions whose further operands only say of what shape and type the result is to be."""

T = TypeVar("T")


def giving_values(function: Any, operands: Sequence[T]) -> Sequence[T]:
    """Those operands of a function, or of a method of that name, whose values enter the result."""
    name = function if isinstance(function, str) else getattr(function, "__name__", "")
    if name in _OF_NONE:
        return ()
    return operands[:1] if name in _OF_THE_FIRST else operands


def followed_parameter(node: fx.Node) -> tuple[int, ...] | None:
    """Shape of the parameter whose feedback reaches a node, or ``None`` if none does."""
    return _follow(node, {})


Shape = tuple[int, ...] | None


def _follow(node: fx.Node, known: dict[fx.Node, Shape]) -> Shape:
    """As ``followed_parameter``; nodes that several others use are followed once."""
    if node not in known:
        known[node] = _follow_new(node, known)
    return known[node]


def _follow_new(node: fx.Node, known: dict[fx.Node, Shape]) -> Shape:
    if node.op == "get_attr":
        return node.meta["shape"] if node.meta.get("parameter") else None
    inputs = giving_values(node.target, node.all_input_nodes)
    sources = [(source, _follow(source, known)) for source in inputs]
    if is_reindexing(node):
        found = [shape for _, shape in sources if shape is not None]
        return max(found, key=lambda s: torch.Size(s).numel(), default=None)
    shape = node.meta.get("shape")
    return next((f for s, f in sources if f is not None and s.meta.get("shape") == shape), None)


def is_reindexing(node: fx.Node) -> bool:
    """Whether a node only moves, repeats or casts entries."""
    if node.op == "call_method":
        return getattr(Tensor, str(node.target)) in REINDEXING
    if node.target is getattr:
        return node.args[1] in ("T", "mT")
    return node.target in REINDEXING
