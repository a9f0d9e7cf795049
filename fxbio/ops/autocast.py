"""Autocast for the custom ops: the dtype of the region that the op runs in.

``torch.library.register_autocast`` takes one fixed dtype for a device, which would run float16
in a bfloat16 region.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["register_autocast"]

_LIBRARY = torch.library.Library("fxbio", "FRAGMENT")
_DEVICES = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA", "xpu": "AutocastXPU"}


def register_autocast(
    name: str,
    operands: int,
    dtype: torch.dtype | None = None,
    devices: Iterable[str] = tuple(_DEVICES),
) -> None:
    """Give the op ``fxbio::name`` an autocast rule.

    Args:
        name: of the op.
        operands: how many leading arguments are cast. The feedback stays in its own dtype: a
            cast copy would live from the forward to the backward pass.
        dtype: what they are cast to; by default the dtype of the region.
        devices: the types of device on which the op has the rule.
    """
    for device in devices:
        _LIBRARY.impl(name, _kernel(name, operands, dtype, device), _DEVICES[device])


def _kernel(name: str, operands: int, dtype: torch.dtype | None, device: str) -> Callable[..., Any]:
    def kernel(*args: Any) -> Any:
        target = torch.get_autocast_dtype(device) if dtype is None else dtype
        cast = [_cast(a, device, target) for a in args[:operands]]
        with torch.autocast(device, enabled=False):
            return getattr(torch.ops.fxbio, name).default(*cast, *args[operands:])

    return kernel


def _cast(value: Any, device: str, dtype: torch.dtype) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    if value.device.type != device or value.dtype == torch.float64:
        return value
    return value.to(dtype)
