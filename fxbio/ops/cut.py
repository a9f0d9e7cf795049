"""Cutting a tensor off from its history."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["cut"]


def cut(x: Tensor) -> Tensor:
    """``x`` without its history.

    In an exported program it is an op of its own: decompositions drop ``detach``, and backprop
    would pass again where nothing may.
    """
    return stop(x) if torch.compiler.is_exporting() else x.detach()


@torch.library.custom_op("fxbio::stop", mutates_args=())
def stop(x: Tensor) -> Tensor:
    """A copy of ``x``, behind which no error is sent."""
    return x.clone()


@stop.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _backward(ctx: Any, error: Tensor) -> None:
    return None


stop.register_autograd(_backward)
