"""Taint analysis: tensors computed from parameters alone, and the operations that apply them.

This is the ground truth that capture is checked against: it watches the aten operations of one
forward pass, below every module and function, so no weight use can hide from it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fxbio.graph.mixing import MIXING, PRODUCTS, keeps_entries, mixed_dims, varying_dims
from fxbio.tensors.nested import tensors_in
from fxbio.tensors.operands import shape_of
from fxbio.tensors.storages import storage_key

__all__ = ["WeightTaint", "WeightUse", "plain_tensors"]

aten = torch.ops.aten

_LINEAR_OPS = {
    aten.mm,
    aten.bmm,
    aten.addmm,
    aten.baddbmm,
    aten.addbmm,
    aten.mv,
    aten.addmv,
    *(aten.addmm_, aten.baddbmm_, aten.addbmm_, aten.addmv_),
    *(aten._sparse_addmm, aten._sparse_mm, aten._sparse_mm_reduce_impl, aten.hspmm, aten.sspaddmm),
    aten.convolution,
    aten._convolution,
    aten._trilinear,
    aten._grouped_mm,
    *(aten._scaled_mm, aten._int_mm, aten._weight_int8pack_mm, aten._weight_int4pack_mm),
    aten.lstm,
    aten.gru,
    aten.rnn_tanh,
    aten.rnn_relu,
    aten.mkldnn_rnn_layer,
    aten._cudnn_rnn,
    aten._thnn_fused_lstm_cell,
    aten._thnn_fused_gru_cell,
}
"""Operations that multiply an activation by a weight."""

ACTIVATION: frozenset[str] = frozenset()
"""The taint of whatever depends on an input; other taints name parameters and buffers."""

_CHANCE = "<random>"
"""Stands in a taint for numbers that were drawn: alone they are data, with a weight its noise."""

_BUILT_IN = {"aten", "prims", "prim", "inductor", "profiler", "fxbio"}
"""Namespaces of ops that are known: torch's own are looked into, fxbio's carry their rule."""


@dataclass(frozen=True)
class WeightUse:
    """One aten operation that applied a tensor computed from parameters to an activation."""

    operation: str
    sources: frozenset[str]
    """Qualified names of the parameters."""


class WeightTaint(TorchDispatchMode):
    """Follows parameters and buffers through a forward pass at the level of the dispatcher.

    Storages are followed rather than tensors, because autograd hands out new tensor objects for
    views. A storage without taint is a constant that no module owns.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.uses: list[WeightUse] = []
        self._parameters = {name for name, _ in model.named_parameters()}
        self._taints: dict[Hashable, frozenset[str]] = {}
        self._modulated: dict[Hashable, frozenset[str]] = {}
        self._scaled: dict[Hashable, dict[str, frozenset[int]]] = {}
        """Of products of an activation and weights: along which dimensions each weight varies."""
        own = (plain_tensors(model), model.named_buffers(), model.named_parameters())
        for name, tensor in chain(*own):
            self._taints[storage_key(tensor)] = frozenset({name})

    def parameters(self, tensor: Any) -> frozenset[str]:
        """Parameters from which, with constants, a tensor is computed; empty for an activation."""
        return self._sources(tensor) & self._parameters

    def buffers(self, tensor: Any) -> frozenset[str]:
        """Buffers from which, with parameters, a tensor is computed; empty for an activation."""
        return self._sources(tensor) - self._parameters - {_CHANCE}

    def is_weight(self, tensor: Any) -> bool:
        """True if a tensor is computed from parameters and constants alone."""
        return bool(self.parameters(tensor))

    def is_data(self, tensor: Any) -> bool:
        """True if a tensor depends on an input, or was drawn by chance with no weight in it."""
        taint = self._taints.get(storage_key(tensor))
        return taint is not None and (not taint or _CHANCE in taint) and not self.is_weight(tensor)

    def is_known(self, tensor: Any) -> bool:
        """True if it is known what a tensor is computed from."""
        return storage_key(tensor) in self._taints

    def modulated_by(self, tensor: Any) -> frozenset[str]:
        """Parameters that an activation is an elementwise product of: a weight made to measure."""
        return self._modulated.get(storage_key(tensor), frozenset())

    def mark_activation(self, value: Any) -> None:
        """Declare all tensors of a structure to be activations."""
        for tensor in tensors_in(value):
            self._taints[storage_key(tensor)] = ACTIVATION

    def _sources(self, tensor: Any) -> frozenset[str]:
        if not isinstance(tensor, Tensor):
            return ACTIVATION
        return self._taints.get(storage_key(tensor), ACTIVATION)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        operands = list(tensors_in((args, kwargs)))
        known = [t for t in map(self._taints.get, map(storage_key, operands)) if t is not None]
        if torch.Tag.nondeterministic_seeded in func.tags:
            known.append(frozenset({_CHANCE}))
        if not known:
            return out
        taint = ACTIVATION if ACTIVATION in known else frozenset().union(*known)
        if taint is ACTIVATION:
            self._note_use(func, args, kwargs)
            self._note_modulation(func, operands, out)
            self._note_mixing(func, args, operands, out)
        for tensor in tensors_in(out):
            self._taints[storage_key(tensor)] = taint
        return out

    def _note_use(self, func: Any, args: Any, kwargs: Any) -> None:
        """Record the weights among the multiplied operands; a bias is not a weight use."""
        name = func.overloadpacket.__name__
        if func.namespace not in _BUILT_IN:
            # An op from elsewhere may do anything with a matrix; scales and biases are vectors.
            operands = [t for t in tensors_in((args, kwargs)) if t.dim() > 1]
        elif func.overloadpacket in _LINEAR_OPS | MIXING:
            operands = args[1:] if name.rstrip("_") in _BIAS_FIRST else args
            operands = operands[:2] if name in ("convolution", "_convolution") else operands
        else:
            return
        found = frozenset().union(*(self.parameters(t) for t in tensors_in(operands)))
        if found:
            self.uses.append(WeightUse(name, found))

    def _note_mixing(self, func: Any, args: Any, operands: list[Tensor], out: Any) -> None:
        """Record the weights of an elementwise product where it is summed along them."""
        if not isinstance(out, Tensor) or func.namespace != "aten":
            return
        first = operands[0]
        dims = mixed_dims(func, args, first)
        before = self._scaled.get(storage_key(first), {})
        mixed = frozenset(name for name, varying in before.items() if varying & dims)
        if mixed:
            self.uses.append(WeightUse(func.overloadpacket.__name__, mixed))
        scaled: dict[str, frozenset[int]] = {}
        for tensor in operands:
            if keeps_entries(func, tensor, out):
                scaled |= self._scaled.get(storage_key(tensor), {})
            if func.overloadpacket in PRODUCTS and not _is_summand(func, tensor, args):
                varying = varying_dims(tensor, out)
                scaled |= dict.fromkeys(self.parameters(tensor), varying)
        self._scaled[storage_key(out)] = scaled

    def _note_modulation(self, func: Any, operands: list[Tensor], out: Any) -> None:
        """Follow elementwise products of a matrix with an activation, and what only moves them."""
        if not isinstance(out, Tensor) or func.namespace != "aten":
            return
        if func.overloadpacket in _ELEMENTWISE:
            shape = shape_of(out)
            found = [self.parameters(t) for t in operands if t.dim() > 1 and shape_of(t) == shape]
            found += [self.modulated_by(t) for t in operands]
        elif func.is_view or func.overloadpacket in _MOVING:
            found = [self.modulated_by(t) for t in operands]
        else:
            found = []
        if sources := frozenset().union(*found):
            self._modulated[storage_key(out)] = sources


_ELEMENTWISE = {aten.mul, aten.div, aten.mul_, aten.div_}
_MOVING = {aten.clone, aten._to_copy, aten._unsafe_view, aten.expand, aten.view}

_BIAS_FIRST = {"addmm", "baddbmm", "addbmm", "addmv", "_sparse_addmm", "sspaddmm"}


def _is_summand(func: Any, tensor: Tensor, args: Any) -> bool:
    return func.overloadpacket in (aten.addcmul, aten.addcdiv) and tensor is args[0]


def plain_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors that modules hold as ordinary attributes, with their qualified names."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                yield (f"{path}.{name}" if path else name), value
