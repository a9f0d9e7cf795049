"""Cutting a tensor off from its history, in a way that tracing keeps."""

from __future__ import annotations

from torch import Tensor

__all__ = ["cut"]


def cut(tensor: Tensor) -> Tensor:
    """The tensor without its history."""
    return tensor.detach()
