"""The torch functions that apply a weight, and how each is written with a rule.

Capture uses the table to find sites, the binding uses it to run them, so both agree on what a
weight use is.
"""

from __future__ import annotations

import operator
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fxbio.ops import functional
from fxbio.ops.einsum import explicit_equation
from fxbio.ops.functional import Backward
from fxbio.site import OpKind

__all__ = [
    "COMPOSITES",
    "LinearCall",
    "is_linear_function",
    "match_linear_call",
    "weight_axes",
    "weight_operand",
]

IsWeight = Callable[[Any], bool]


@dataclass(frozen=True)
class LinearCall:
    """A call that applies a weight to an activation, written for an op that takes a rule."""

    op: OpKind
    weight: Any
    """The weight operand."""
    target: Callable[..., Tensor]
    """Function of ``fxbio.ops.functional`` that runs it with a backward path."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    groups: int = 1

    def run(self, backward: Backward) -> Tensor:
        """Evaluate the call."""
        return self.target(*self.args, **self.kwargs, backward=backward)


def _linear(x: Any, weight: Any, bias: Any = None) -> LinearCall:
    if isinstance(weight, Tensor) and weight.dim() == 1 and bias is None:  # which torch multiplies
        return LinearCall(
            "matmul", weight, functional.matmul, (x, weight), {"weight_is_left": False}
        )
    return LinearCall("linear", weight, functional.linear, (x, weight, bias), {})


def _conv(kind: OpKind) -> Callable[..., LinearCall]:
    def match(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> LinearCall:
        args = (input, weight, bias, stride, padding, dilation, groups)
        return LinearCall(kind, weight, functional.conv, args, {}, groups)

    return match


def _conv_transpose(kind: OpKind) -> Callable[..., LinearCall]:
    def match(
        input: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> LinearCall:
        args = (input, weight, bias, stride, padding, output_padding, groups, dilation)
        return LinearCall(kind, weight, functional.conv_transpose, args, {}, groups)

    return match


def _batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: Any = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> LinearCall:
    args = (input, running_mean, running_var, weight, bias, training, momentum, eps)
    return LinearCall("norm", weight, functional.batch_norm, args, {})


def _layer_norm(
    input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> LinearCall:
    args = (input, normalized_shape, weight, bias, eps)
    return LinearCall("norm", weight, functional.layer_norm, args, {})


def _group_norm(
    input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> LinearCall:
    args = (input, num_groups, weight, bias, eps)
    return LinearCall("norm", weight, functional.group_norm, args, {})


def _matmul(*args: Any, is_weight: IsWeight, out: Any = None, **named: Any) -> LinearCall | None:
    left, right = (*args, *named.values())
    if out is not None or is_weight(left) == is_weight(right):
        return None
    on_left = is_weight(left)
    weight = left if on_left else right
    options = {"weight_is_left": on_left}
    return LinearCall("matmul", weight, functional.matmul, (left, right), options)


def _reversed_matmul(right: Any, left: Any, is_weight: IsWeight) -> LinearCall | None:
    return _matmul(left, right, is_weight=is_weight)


def _addmm(
    bias: Any,
    *args: Any,
    is_weight: IsWeight,
    beta: float = 1,
    alpha: float = 1,
    out: Any = None,
    **named: Any,
) -> LinearCall | None:
    x, weight = (*args, *named.values())
    if out is not None or is_weight(x) or not is_weight(weight):
        return None
    options = {"beta": beta, "alpha": alpha}
    return LinearCall("matmul", weight, functional.addmm, (bias, x, weight), options)


def _einsum(equation: Any, *operands: Any, is_weight: IsWeight) -> LinearCall | None:
    listed = len(operands) == 1 and isinstance(operands[0], list | tuple)
    pair = tuple(operands[0]) if listed else operands
    if not isinstance(equation, str) or explicit_equation(equation) is None or len(pair) != 2:
        return None
    if is_weight(pair[0]) == is_weight(pair[1]):
        return None
    at = int(is_weight(pair[1]))
    options = {"equation": equation, "weight_at": at}
    return LinearCall("matmul", pair[at], functional.einsum, (pair[1 - at], pair[at]), options)


_CONVS: dict[int, OpKind] = {1: "conv1d", 2: "conv2d", 3: "conv3d"}
_TRANSPOSED: dict[int, OpKind] = {
    1: "conv_transpose1d",
    2: "conv_transpose2d",
    3: "conv_transpose3d",
}

_ONE_WEIGHT: dict[Any, Callable[..., LinearCall]] = {
    F.linear: _linear,
    F.batch_norm: _batch_norm,
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    **{getattr(torch, f"conv{d}d"): _conv(_CONVS[d]) for d in (1, 2, 3)},
    **{getattr(torch, f"conv_transpose{d}d"): _conv_transpose(_TRANSPOSED[d]) for d in (1, 2, 3)},
}
"""Functions that say which of their arguments is the weight."""

_EITHER_SIDE: dict[Any, Callable[..., LinearCall | None]] = {
    **dict.fromkeys(
        [
            torch.matmul,
            operator.matmul,  # so does a strict export call the method
            torch.mm,
            torch.bmm,
            torch.mv,
            torch.dot,
            torch.Tensor.matmul,
            torch.Tensor.mm,
            torch.Tensor.bmm,
            torch.Tensor.mv,
            torch.Tensor.dot,
            torch.Tensor.__matmul__,
        ],
        _matmul,
    ),
    torch.Tensor.__rmatmul__: _reversed_matmul,
    **dict.fromkeys([torch.addmm, torch.baddbmm, torch.Tensor.addmm, torch.Tensor.baddbmm], _addmm),
    torch.einsum: _einsum,
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
        return call if is_weight(call.weight) else None
    either = _EITHER_SIDE.get(function)
    if either is None:
        return None
    return either(*args, **kwargs, is_weight=is_weight)


def is_linear_function(function: Any) -> bool:
    """Whether a function applies a weight, if it is given one."""
    return function in _ONE_WEIGHT or function in _EITHER_SIDE


def weight_operand(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a call passes as the weight, of the functions that take one by definition."""
    one = _ONE_WEIGHT.get(function)
    return None if one is None else one(*args, **kwargs).weight


def weight_axes(call: LinearCall, dims: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which dimensions of a ``matmul`` weight are summed over, and which the result gains.

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
