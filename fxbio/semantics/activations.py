"""The elementwise nonlinearities of torch, as a ``TorchFunctionMode`` is shown them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ACTIVATIONS", "is_activation_layer"]

_NAMES = (
    "celu",
    "elu",
    "gelu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
)


def _functions() -> set[Any]:
    homes = (F, torch, torch.Tensor, torch._C._nn)
    spellings = [spelling for name in _NAMES for spelling in (name, f"{name}_")]
    found = (getattr(home, spelling, None) for home in homes for spelling in spellings)
    return {function for function in found if function is not None}


ACTIVATIONS: frozenset[Any] = frozenset(_functions())
"""Functions and methods, in-place forms included; the softmaxes are not elementwise."""


_LAYERS = frozenset(
    cls
    for key, cls in vars(nn.modules.activation).items()
    if key.lower() in {name.replace("_", "") for name in _NAMES}
)


def is_activation_layer(module: nn.Module) -> bool:
    """True if a stock layer of ``torch.nn`` is one of these functions."""
    return type(module) in _LAYERS
