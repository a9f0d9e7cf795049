"""Calls of torch functions that apply a weight, by the table of operations."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves

from fxbio.ops import functional
from fxbio.ops.einsum import explicit_equation
from fxbio.semantics.op_spec import IsWeight, LinearCall
from fxbio.semantics.op_table import OPERATIONS

__all__ = [
    "COMPOSITES",
    "LinearCall",
    "applies_layer",
    "is_linear_function",
    "match_linear_call",
    "weight_axes",
    "weight_operand",
]

_ONE_WEIGHT: dict[Any, Callable[..., LinearCall | None]] = {
    function: match
    for spec in OPERATIONS
    if not spec.either_side
    for function, match in spec.functions.items()
}
"""Functions that say which of their arguments is the weight."""

_EITHER_SIDE: dict[Any, Callable[..., LinearCall | None]] = {
    function: match
    for spec in OPERATIONS
    if spec.either_side
    for function, match in spec.functions.items()
}
"""Functions that may find the weight on either side, or none at all."""


def match_linear_call(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], is_weight: IsWeight
) -> LinearCall | None:
    """The weight use in a call of a torch function, or ``None`` if it is none.

    Args:
        function: as a ``TorchFunctionMode`` is given it.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.
        is_weight: whether a value is computed from parameters alone.
    """
    one = _ONE_WEIGHT.get(function)
    if one is not None:
        call = one(*args, **kwargs)
        return call if call is not None and is_weight(call.weight) else None
    either = _EITHER_SIDE.get(function)
    if either is None:
        return None
    return either(*args, **kwargs, is_weight=is_weight)


def is_linear_function(function: Any) -> bool:
    """True if a function applies a weight, if it is given one."""
    return function in _ONE_WEIGHT or function in _EITHER_SIDE


def weight_operand(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Weight argument of a call, of the functions that take one by definition."""
    one = _ONE_WEIGHT.get(function)
    call = None if one is None else one(*args, **kwargs)
    return None if call is None else call.weight


def weight_axes(call: LinearCall, dims: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Dimensions of a ``matmul`` weight that are summed over, and those that the result gains.

    Args:
        call: one with ``op`` matmul.
        dims: number of dimensions of the weight.
    """
    if call.target is functional.einsum:
        subscripts = explicit_equation(call.kwargs["equation"])
        assert subscripts is not None
        at = call.kwargs["weight_at"]
        of_weight, of_x = subscripts[at], subscripts[1 - at]
        summed = tuple(d for d, c in enumerate(of_weight) if c not in subscripts[2])
        return summed, tuple(d for d, c in enumerate(of_weight) if c not in of_x)
    if dims == 1:
        return (-1,), ()
    return ((-1,), (-2,)) if call.kwargs.get("weight_is_left") else ((-2,), (-1,))


def _without_dispatch(function: Any) -> Callable[..., Any]:
    """A Python-level torch function whose body runs under an active mode.

    Such functions begin by handing themselves to the mode, so a mode can only ever see them from
    outside; with their test for overrides answering no, the mode sees the operations within.
    """
    scope = dict(function.__globals__)
    scope.update({k: lambda *_: False for k in scope if k.startswith("has_torch_function")})
    body = types.FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
    )
    body.__kwdefaults__ = function.__kwdefaults__
    return body


COMPOSITES: dict[Any, Callable[..., Any]] = {
    F.multi_head_attention_forward: _without_dispatch(F.multi_head_attention_forward)
}
"""Functions that contain weight uses, each with the form that shows them."""

_LAYERS: frozenset[Any] = frozenset(
    [
        F.bilinear,
        *COMPOSITES,
        *(spec.lowered for spec in OPERATIONS if spec.multiplies),
        *(
            f
            for spec in OPERATIONS
            if spec.multiplies and not spec.either_side
            for f in spec.functions
        ),
    ]
)
_RULED = frozenset(f"fxbio::{spec.op}" for spec in OPERATIONS if spec.multiplies)


def _is_parameter(value: Any) -> bool:
    return isinstance(value, nn.Parameter)


def applies_layer(
    function: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    is_parameter: IsWeight = _is_parameter,
) -> bool:
    """True if a call applies a layer's matrix, where an error is routed around what comes next.

    Scales of normalisation layers do not count, nor do products of two activations.

    Args:
        function: as a ``TorchFunctionMode`` is given it.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.
        is_parameter: whether a value is a parameter.
    """
    if isinstance(function, OpOverload):
        return function._schema.name in _RULED
    if function in _LAYERS:
        return True
    return function in _EITHER_SIDE and any(map(is_parameter, tree_leaves((args, kwargs))))
