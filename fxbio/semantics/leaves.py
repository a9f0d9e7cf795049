"""Which modules are recorded as one node, and which of them apply a weight."""

from __future__ import annotations

import torch
from torch import nn

from fxbio.site import OpKind

__all__ = ["NORMS", "is_leaf", "linear_leaf_kind", "norm_leaf", "opaque_reason"]

_LINEAR_LEAVES: dict[type[nn.Module], OpKind] = {
    nn.Linear: "linear",
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Conv3d: "conv3d",
    nn.ConvTranspose1d: "conv_transpose1d",
    nn.ConvTranspose2d: "conv_transpose2d",
    nn.ConvTranspose3d: "conv_transpose3d",
}

NORMS: tuple[type[nn.Module], ...] = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.LayerNorm,
    nn.GroupNorm,
)

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def linear_leaf_kind(module: nn.Module) -> OpKind | None:
    """The operation of a layer whose forward is exactly that of ``torch.nn``, else ``None``.

    A subclass with a forward of its own is not its parent: it may standardise its weight first.
    """
    for cls, kind in _LINEAR_LEAVES.items():
        if isinstance(module, cls) and _runs_forward_of(module, cls):
            return kind
    return None


def norm_leaf(module: nn.Module) -> type[nn.Module] | None:
    """The normalisation class whose exact forward a layer with a scale runs, else ``None``."""
    if getattr(module, "weight", None) is None:
        return None
    for cls in NORMS:
        if isinstance(module, cls) and _runs_forward_of(module, cls):
            return cls
    return None


def _runs_forward_of(module: nn.Module, cls: type[nn.Module]) -> bool:
    if "forward" in vars(module) or type(module).forward is not cls.forward:
        return False
    inner = getattr(cls, "_conv_forward", None)
    return inner is None or getattr(type(module), "_conv_forward", None) is inner


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is one node: a childless layer of ``torch.nn``, or a stock linear layer."""
    if hasattr(module, "parametrizations"):
        return False
    if linear_leaf_kind(module) is not None:
        return "weight" in module._parameters
    if any(True for _ in module.children()) or isinstance(module, nn.Bilinear):
        return False
    return type(module).__module__.startswith("torch.nn.modules.")


def opaque_reason(module: nn.Module) -> str | None:
    """Why nothing inside a module can be seen, or ``None`` if it can."""
    if isinstance(module, torch.jit.ScriptModule):
        return "a TorchScript module runs outside of Python"
    if isinstance(module, _RECURRENT):
        return f"nn.{type(module).__name__} applies its weights inside one fused kernel"
    return None
