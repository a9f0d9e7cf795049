"""Cutting a tensor off from its history."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fxbio.ops.custom_op import custom_op

__all__ = ["cut"]


def cut(x: Tensor) -> Tensor:
    """``x`` without its history.

    In an exported program it is an op of its own: decompositions drop ``detach``, and backprop
    would pass again where nothing may.
    """
    return stop(x) if torch.compiler.is_exporting() else x.detach()


@custom_op("stop")
def stop(x: Tensor) -> Tensor:
    """A copy of ``x``, behind which no error is sent."""
    return x.clone()


def _backward(ctx: Any, error: Tensor) -> None:
    return None


stop.register_autograd(_backward)
