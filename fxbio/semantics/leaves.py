"""Leaf modules: those recorded as one node, and those of them that apply a weight."""

from __future__ import annotations

import torch
from torch import nn

from fxbio.semantics.op_table import OPERATIONS
from fxbio.site import MATRIX_OPS, OpKind

__all__ = ["is_leaf", "leaf_kind", "linear_leaf_kind", "opaque_reason"]

_LEAVES: dict[type[nn.Module], OpKind] = {
    cls: kind for spec in OPERATIONS for cls, kind in spec.layers.items()
}

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def leaf_kind(module: nn.Module) -> OpKind | None:
    """The operation of a layer whose forward is exactly that of ``torch.nn``, else ``None``.

    A subclass with a forward of its own is not its parent: it may standardise its weight first.
    """
    kind = linear_leaf_kind(module)
    if kind is not None or getattr(module, "weight", None) is None:
        return kind
    return _kind(module)


def linear_leaf_kind(module: nn.Module) -> OpKind | None:
    """As ``leaf_kind``, of the layers that multiply by a matrix and always have one."""
    kind = _kind(module)
    return kind if kind in MATRIX_OPS else None


def _kind(module: nn.Module) -> OpKind | None:
    for cls, kind in _LEAVES.items():
        if isinstance(module, cls) and _runs_forward_of(module, cls):
            return kind
    return None


def _runs_forward_of(module: nn.Module, cls: type[nn.Module]) -> bool:
    if "forward" in vars(module) or type(module).forward is not cls.forward:
        return False
    inner = getattr(cls, "_conv_forward", None)
    return inner is None or getattr(type(module), "_conv_forward", None) is inner


def is_leaf(module: nn.Module) -> bool:
    """True if a module is one node: a childless layer of ``torch.nn``, or a stock linear layer."""
    if hasattr(module, "parametrizations"):
        return False
    if linear_leaf_kind(module) is not None:
        return "weight" in module._parameters
    if any(True for _ in module.children()) or isinstance(module, nn.Bilinear):
        return False
    return type(module).__module__.startswith("torch.nn.modules.")


def opaque_reason(module: nn.Module) -> str | None:
    """Reason why nothing inside a module can be seen, or ``None`` if it can."""
    if isinstance(module, torch.jit.ScriptModule):
        return "a TorchScript module runs outside of Python"
    if isinstance(module, _RECURRENT):
        return f"nn.{type(module).__name__} applies its weights inside one fused kernel"
    return None
