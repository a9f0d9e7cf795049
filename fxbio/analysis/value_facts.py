"""Dependencies of a value in a training step, and the information it has about a weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any

import torch

__all__ = [
    "Facts",
    "Level",
    "applies_weight",
    "facts_of_result",
    "is_additive",
    "parts_of",
    "reads_shape_only",
]

aten = torch.ops.aten


class Level(IntFlag):
    """Information about a weight in a value made of it. Signs with magnitudes are all."""

    NONE = 0
    SIGN = 1
    MAGNITUDE = 2
    FULL = 3


@dataclass(frozen=True)
class Facts:
    """Dependencies of one value."""

    error: bool = False
    """On the gradient that the backward pass begins with."""
    data: bool = False
    """On an input of the model or a target."""
    names: Mapping[str, Level] = field(default_factory=dict)
    """On these parameters and buffers, where it depends on nothing else."""


def facts_of_result(op: Any, args: tuple[Any, ...], operands: Iterable[tuple[int, Facts]]) -> Facts:
    """Dependencies of the result of an operation.

    Args:
        op: an overload.
        args: of its call.
        operands: position among the arguments and facts of each tensor that it reads.
    """
    operands = list(operands)
    if reads_shape_only(op):
        return Facts()
    error, data = any(f.error for _, f in operands), any(f.data for _, f in operands)
    if error or data or applies_weight(op):
        return Facts(error, data or applies_weight(op))
    names: dict[str, Level] = {}
    for position, facts in operands:
        for name, level in facts.names.items():
            names[name] = names.get(name, Level.NONE) | _kept(op, args, position, level)
    return Facts(names=names)


def applies_weight(op: Any) -> bool:
    """True if it applies a weight under a rule.

    The result is an activation whatever it is applied to, and be it a start state of zeros.
    """
    return op.namespace == "fxbio" and any(a.name == "rule" for a in op._schema.arguments)


def _kept(op: Any, args: tuple[Any, ...], position: int, level: Level) -> Level:
    """Knowledge of an operand that an operation keeps: all that is not known to be lost."""
    packet = op.overloadpacket
    if level is not Level.FULL:
        return level
    if packet is aten.copysign:
        return Level.MAGNITUDE if position == 0 else Level.SIGN
    if packet in _SIGNS or (packet in _COMPARISONS and _is_zero(args[1])):
        return Level.SIGN
    even = packet is aten.pow and isinstance(args[1], int | float) and args[1] % 2 == 0
    return Level.MAGNITUDE if even or packet in _MAGNITUDES else level


def _is_zero(value: Any) -> bool:
    return isinstance(value, int | float) and value == 0


_SIGNS = {aten.sign, aten.sgn, aten.signbit, aten.logical_not}
_COMPARISONS = {aten.gt, aten.ge, aten.lt, aten.le, aten.eq, aten.ne}
_MAGNITUDES = {aten.abs, aten.linalg_vector_norm, aten.norm, aten.square}


def reads_shape_only(op: Any) -> bool:
    """True if an operation looks at the shapes of tensors and not at their entries."""
    return op.overloadpacket in _SHAPE_ONLY


_SHAPE_ONLY = {
    *(aten.empty_like, aten.zeros_like, aten.ones_like, aten.full_like),
    *(aten.rand_like, aten.randn_like, aten.randint_like),
    *(aten.new_empty, aten.new_zeros, aten.new_ones, aten.new_full, aten.new_empty_strided),
}


def is_additive(op: Any, position: int) -> bool:
    """True if an operand is a summand: it adds to an error, but does not carry it."""
    packet = op.overloadpacket
    return packet in _SUMS or position in _SUMMANDS.get(packet, ())


_SUMS = {aten.add, aten.sub, aten.rsub, aten.add_, aten.sub_}
_BIASED = (aten.addmm, aten.baddbmm, aten.addbmm, aten.addmv, aten.addcmul, aten.addcdiv)
_SUMMANDS: dict[Any, tuple[int, ...]] = {
    **dict.fromkeys(_BIASED, (0,)),
    aten.mkldnn_rnn_layer_backward: (3, 4),  # its biases
}


def parts_of(op: Any) -> tuple[tuple[int, ...], ...] | None:
    """For a fused backward kernel, the arguments that each of its results is computed from.

    The gradient of a weight, say, is computed without the weight. Running statistics and biases
    only shift what is normalised, and are left out.
    """
    return _FUSED.get(op.overloadpacket)


_FUSED: dict[Any, tuple[tuple[int, ...], ...]] = {
    aten.convolution_backward: ((0, 2), (0, 1), (0,)),
    aten.native_batch_norm_backward: ((0, 1, 2, 5, 6), (0, 1, 5, 6), (0,)),
    aten.batch_norm_backward: ((0, 1, 2, 5, 6), (0, 1, 5, 6), (0,)),
    aten.cudnn_batch_norm_backward: ((0, 1, 2, 5, 6), (0, 1, 5, 6), (1,)),
    aten.native_layer_norm_backward: ((0, 1, 3, 4, 5), (0, 1, 3, 4), (0,)),
    aten.native_group_norm_backward: ((0, 1, 2, 3, 4), (0, 1, 2, 3), (0,)),
    aten._fused_rms_norm_backward: ((0, 1, 3, 4), (0, 1, 3)),
}
