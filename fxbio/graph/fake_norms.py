"""Shapes of what batch and layer norm return.

torch runs its whole formula on fake tensors to find them, some twenty operations: half of the time
that a capture of a ResNet takes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

__all__ = ["NormOutputs", "norm_outputs"]


class NormOutputs(NamedTuple):
    """The normalised tensor, like the input, and two of statistics."""

    memory_format: torch.memory_format
    """Of the normalised tensor."""
    statistics: list[int]
    """Shape of means and of inverse deviations."""
    dtype: torch.dtype
    """Of the statistics."""


def norm_outputs(func: Any, args: Any) -> NormOutputs | None:
    """The outputs of a batch or layer norm, or ``None``: for other operations and wrong arguments.

    Args:
        func: an operation of aten.
        args: of the call, by position.
    """
    if func is torch.ops.aten.native_batch_norm.default:
        return _batch_norm(*args)
    if func is torch.ops.aten.native_layer_norm.default:
        return _layer_norm(*args)
    return None


def _batch_norm(x: Tensor, *rest: Any) -> NormOutputs | None:
    *parameters, training, _momentum, _epsilon = rest
    if not _all_of(x.shape[1:2], parameters):
        return None
    statistics = [x.shape[1] if training else 0]
    return NormOutputs(suggest_memory_format(x), statistics, _accumulated(x))


def _layer_norm(x: Tensor, shape: list[int], *parameters: Any) -> NormOutputs | None:
    kept = x.dim() - len(shape)
    if list(x.shape[kept:]) != list(shape) or not _all_of(torch.Size(shape), parameters[:2]):
        return None
    statistics = [*x.shape[:kept], *([1] * len(shape))]
    return NormOutputs(torch.contiguous_format, statistics, _accumulated(x))


def _all_of(shape: torch.Size, parameters: Any) -> bool:
    return all(each is None or each.shape == shape for each in parameters)


def _accumulated(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
