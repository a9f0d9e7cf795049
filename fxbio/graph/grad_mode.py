"""Whether and for what gradients are computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

__all__ = ["differentiated", "learning"]


def differentiated() -> bool:
    """Whether somebody may go back through what runs now; an exported program is for both."""
    return torch.is_grad_enabled() or torch.compiler.is_exporting()


@contextlib.contextmanager
def learning(frozen: Iterable[Tensor]) -> Iterator[None]:
    """Parameters that do not learn get gradients inside the ``with`` block."""
    frozen = list(frozen)
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
