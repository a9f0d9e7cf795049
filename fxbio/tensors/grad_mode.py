"""Grad mode: whether gradients are computed, and for what."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

__all__ = ["differentiated", "is_examined", "learning", "under_examination"]


def differentiated() -> bool:
    """True if somebody may go back through what runs now; an exported program is for both."""
    return torch.is_grad_enabled() or torch.compiler.is_exporting()


@contextlib.contextmanager
def learning(frozen: Iterable[Tensor]) -> Iterator[None]:
    """Parameters get gradients inside the ``with`` block, and are afterwards as they were."""
    before = [(parameter, parameter.requires_grad) for parameter in frozen]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, learns in before:
            parameter.requires_grad_(learns)


_examined = [0]


@contextlib.contextmanager
def under_examination() -> Iterator[None]:
    """Forward passes inside look at a model, as ``verify`` does, and are no part of training it."""
    _examined[0] += 1
    try:
        yield
    finally:
        _examined[0] -= 1


def is_examined() -> bool:
    """True if the model that runs is looked at and not trained."""
    return _examined[0] > 0
