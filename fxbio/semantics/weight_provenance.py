"""Following the entries of a parameter to the operation that applies them.

A chunk of a weight takes the chunk of its feedback, a transposed weight the transposed feedback:
what a function that only moves entries does to a weight, it does to the feedback. Arithmetic
between weights keeps the feedback of the operand whose shape the result has, as in weight
standardisation or ``W + B A``. Otherwise the result is a new weight with feedback of its own; so is
what is put together of weights of which not all have a part in the one feedback.

Capture follows shapes, lowering follows the nodes of feedback, and a scope tensors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, fx

__all__ = [
    "Followed",
    "NodeFollower",
    "called_function",
    "follow",
    "followed_parameter",
    "giving_values",
]


def _functions(*names: str) -> list[Callable[..., Any]]:
    found = [getattr(home, name, None) for name in names for home in (Tensor, torch)]
    return [function for function in found if function is not None]


_ATTRIBUTES = ("T", "mT")

REINDEXING = frozenset(
    [
        *_functions("chunk", "split", "unbind", "t", "transpose", "permute", "movedim", "swapaxes"),
        *_functions("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "narrow"),
        *_functions("select", "expand", "contiguous", "clone", "detach", "cat", "stack", "flip"),
        *_functions("roll", "tensor_split", "split_with_sizes", "index_select", "swapdims"),
        *_functions("to", "type_as", "float", "half", "bfloat16", "double", "moveaxis", "repeat"),
        operator.getitem,  # so does a strict export call the method
        *_functions("__getitem__", "concat", "concatenate", "view_as", "reshape_as"),
        *(vars(torch._C.TensorBase)[name].__get__ for name in _ATTRIBUTES),
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
Shape = tuple[int, ...] | None
"""``None`` of a node that returns several tensors."""


def giving_values(function: Any, operands: Sequence[T]) -> Sequence[T]:
    """Those operands of a function, or of a method of that name, whose values enter the result."""
    name = function if isinstance(function, str) else getattr(function, "__name__", "")
    if name in _OF_NONE:
        return ()
    return operands[:1] if name in _OF_THE_FIRST else operands


def called_function(node: fx.Node) -> Any:
    """Function of a node, as a ``TorchFunctionMode`` is given it."""
    if node.op == "call_method":
        return getattr(Tensor, str(node.target))
    if node.target is getattr and node.args[1] in _ATTRIBUTES:
        return vars(torch._C.TensorBase)[str(node.args[1])].__get__
    return node.target


@dataclass(frozen=True)
class Followed(Generic[T]):
    """A value that is computed from parameters and constants alone."""

    shape: Shape
    weight: bool
    """Whether a parameter enters it."""
    twin: T | None
    """What stands for it where its feedback is computed; ``None`` where none reaches it."""


def follow(
    function: Any,
    operands: Sequence[Followed[T]],
    shapes: Sequence[Shape],
    moved: Callable[[], Sequence[T | None]],
) -> list[T | None]:
    """The twins of the results of a function.

    Args:
        function: as a ``TorchFunctionMode`` is given it.
        operands: those whose values enter the results, in order.
        shapes: of the results.
        moved: what the function gives for twins in the place of weights.
    """
    weights = [operand for operand in operands if operand.weight]
    if function in REINDEXING:
        reached = bool(weights) and all(weight.twin is not None for weight in weights)
        return list(moved()) if reached else [None] * len(shapes)
    return [
        next((w.twin for w in weights if w.twin is not None and w.shape == shape), None)
        for shape in shapes
    ]


class NodeFollower(Generic[T]):
    """Follows the nodes of a graph to what reaches them."""

    def __init__(
        self,
        source: Callable[[fx.Node], T | None],
        moved: Callable[[fx.Node, Mapping[fx.Node, T]], T | None],
    ) -> None:
        """Follow nothing yet.

        Args:
            source: the twin of a parameter.
            moved: the twin of a node, from those of its operands.
        """
        self._source = source
        self._moved = moved
        self._known: dict[fx.Node, Followed[T]] = {}

    def twin(self, node: fx.Node) -> T | None:
        """Feedback counterpart of a node, or ``None``."""
        return self._value(node).twin

    def _value(self, node: fx.Node) -> Followed[T]:
        if node not in self._known:  # nodes that several others use are followed once
            self._known[node] = self._new_value(node)
        return self._known[node]

    def _new_value(self, node: fx.Node) -> Followed[T]:
        shape = node.meta.get("shape")
        if node.op == "get_attr":
            parameter = bool(node.meta.get("parameter"))
            return Followed(shape, parameter, self._source(node) if parameter else None)
        function = called_function(node)
        inputs = giving_values(function, node.all_input_nodes)
        operands = {source: self._value(source) for source in inputs}
        twins = {n: o.twin for n, o in operands.items() if o.weight and o.twin is not None}
        (twin,) = follow(
            function, [*operands.values()], [shape], lambda: [self._moved(node, twins)]
        )
        return Followed(shape, any(o.weight for o in operands.values()), twin)


def followed_parameter(node: fx.Node) -> tuple[int, ...] | None:
    """Shape of the parameters whose one feedback reaches a node, or ``None`` if none does."""

    def moved(node: fx.Node, shapes: Mapping[fx.Node, tuple[int, ...]]) -> tuple[int, ...] | None:
        distinct = set(shapes.values())
        return distinct.pop() if len(distinct) == 1 else None

    return NodeFollower[tuple[int, ...]](lambda source: source.meta["shape"], moved).twin(node)
