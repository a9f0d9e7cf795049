"""The one table of operations that apply a weight. A new operation is a row of it.

Capture reads it to find sites, the runtime to run them and the oracle to check them, so all agree
on what a weight use is. A row says how torch spells the operation, as functions and as layers, how
a call is written for the op that takes a rule, and what that op computes without a rule.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxbio.ops import functional
from fxbio.ops.einsum import explicit_equation
from fxbio.semantics.op_spec import Arguments, IsWeight, LinearCall, OpSpec
from fxbio.site import OpKind

__all__ = ["OPERATIONS"]


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


def _rms_norm(
    input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> LinearCall:
    args = (input, normalized_shape, weight, eps)
    return LinearCall("norm", weight, functional.rms_norm, args, {})


def _instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: Any = True,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> LinearCall:
    args = (input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    return LinearCall("norm", weight, functional.instance_norm, args, {})


def _embedding(input: Any, weight: Any, *args: Any, **options: Any) -> LinearCall:
    return LinearCall("embedding", weight, functional.embedding, (input, weight, *args), options)


def _stock(function: Callable[..., Tensor], *names: str) -> Callable[[Arguments], Tensor]:
    """A function of torch on those arguments of an op."""
    return lambda a: function(*(a[name] for name in names))


def _stock_addmm(a: Arguments) -> Tensor:
    function = torch.addmm if a["weight"].dim() == 2 else torch.baddbmm
    return function(a["bias"], a["x"], a["weight"], beta=a["beta"], alpha=a["alpha"])


def _stock_einsum(a: Arguments) -> Tensor:
    pair = (a["weight"], a["x"]) if a["weight_at"] == 0 else (a["x"], a["weight"])
    return torch.einsum(a["equation"], *pair)


def _stock_batch_norm(a: Arguments) -> Tensor:
    mean, var = (None if a[k] is None else a[k].clone() for k in ("running_mean", "running_var"))
    rest = (a["training"], a["momentum"], a["eps"])
    return F.batch_norm(a["x"], mean, var, a["weight"], a["bias"], *rest)


def _stock_embedding(a: Arguments) -> Tensor:
    return torch.embedding(
        a["weight"], a["x"], a["padding_idx"], a["scale_grad_by_freq"], a["sparse"]
    )


_OPERANDS = ("x", "weight", "bias")
_GEOMETRY = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
_CONVS: dict[int, OpKind] = {1: "conv1d", 2: "conv2d", 3: "conv3d"}
_TRANSPOSED: dict[int, OpKind] = {
    1: "conv_transpose1d",
    2: "conv_transpose2d",
    3: "conv_transpose3d",
}

OPERATIONS: tuple[OpSpec, ...] = (
    OpSpec(
        op="linear",
        lowered=functional.linear,
        stock=_stock(F.linear, *_OPERANDS),
        functions={F.linear: _linear},
        layers={nn.Linear: "linear"},
    ),
    OpSpec(
        op="convolution",
        lowered=functional.conv,
        stock=_stock(torch.convolution, *_OPERANDS, *_GEOMETRY),
        functions={getattr(torch, f"conv{d}d"): _conv(kind) for d, kind in _CONVS.items()},
        layers={getattr(nn, f"Conv{d}d"): kind for d, kind in _CONVS.items()},
    ),
    OpSpec(
        op="convolution",
        lowered=functional.conv_transpose,
        stock=_stock(torch.convolution, *_OPERANDS, *_GEOMETRY),
        functions={
            getattr(torch, f"conv_transpose{d}d"): _conv_transpose(kind)
            for d, kind in _TRANSPOSED.items()
        },
        layers={getattr(nn, f"ConvTranspose{d}d"): kind for d, kind in _TRANSPOSED.items()},
    ),
    OpSpec(
        op="matmul",
        lowered=functional.matmul,
        stock=_stock(torch.matmul, "left", "right"),
        functions={
            **{
                getattr(home, name): _matmul
                for home in (torch, Tensor)
                for name in ("matmul", "mm", "bmm", "mv", "dot")
            },
            operator.matmul: _matmul,  # so does a strict export call the method
            Tensor.__matmul__: _matmul,
            Tensor.__rmatmul__: _reversed_matmul,
        },
        either_side=True,
    ),
    OpSpec(
        op="addmm",
        lowered=functional.addmm,
        stock=_stock_addmm,
        functions=dict.fromkeys(
            [torch.addmm, torch.baddbmm, Tensor.addmm, Tensor.baddbmm],
            _addmm,
        ),
        either_side=True,
    ),
    OpSpec(
        op="einsum",
        lowered=functional.einsum,
        stock=_stock_einsum,
        functions={torch.einsum: _einsum},
        either_side=True,
    ),
    OpSpec(
        op="batch_norm",
        lowered=functional.batch_norm,
        stock=_stock_batch_norm,
        functions={F.batch_norm: _batch_norm},
        layers={nn.BatchNorm1d: "norm", nn.BatchNorm2d: "norm", nn.BatchNorm3d: "norm"},
        multiplies=False,
    ),
    OpSpec(
        op="layer_norm",
        lowered=functional.layer_norm,
        stock=_stock(F.layer_norm, "x", "normalized_shape", "weight", "bias", "eps"),
        functions={F.layer_norm: _layer_norm},
        layers={nn.LayerNorm: "norm"},
        multiplies=False,
    ),
    OpSpec(
        op="group_norm",
        lowered=functional.group_norm,
        stock=_stock(F.group_norm, "x", "num_groups", "weight", "bias", "eps"),
        functions={F.group_norm: _group_norm},
        layers={nn.GroupNorm: "norm"},
        multiplies=False,
    ),
    OpSpec(
        op="rms_norm",
        lowered=functional.rms_norm,
        stock=_stock(F.rms_norm, "x", "normalized_shape", "weight", "eps"),
        functions={F.rms_norm: _rms_norm, torch.rms_norm: _rms_norm},
        layers={nn.RMSNorm: "norm"},
        multiplies=False,
    ),
    OpSpec(
        op="batch_norm",
        lowered=functional.instance_norm,
        stock=_stock_batch_norm,
        functions={F.instance_norm: _instance_norm},
        layers={nn.InstanceNorm1d: "norm", nn.InstanceNorm2d: "norm", nn.InstanceNorm3d: "norm"},
        multiplies=False,
    ),
    OpSpec(
        op="embedding",
        lowered=functional.embedding,
        stock=_stock_embedding,
        functions={F.embedding: _embedding},
        layers={nn.Embedding: "embedding"},
        multiplies=False,
    ),
)
