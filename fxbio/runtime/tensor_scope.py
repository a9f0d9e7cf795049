"""The base of the scopes that follow tensors while a forward runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["MARK", "TensorScope", "operands_in"]

MARK = torch.ops.fxbio.mark.default


class TensorScope(TorchFunctionMode):
    """Sees every call of torch, and the marks on the boundaries of modules.

    Tensors are followed by identity: inside of a forward each result is an object of its own.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not MARK:
            return self.on_function(func, args, kwargs or {})
        answer = self.on_mark(*args)
        return func(*args) if answer is None else answer

    def on_function(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of a call of torch."""
        raise NotImplementedError

    def on_mark(self, tensor: Tensor, event: str, name: str) -> Tensor | None:
        """Tensor that goes on from a mark; ``None`` for one that another scope answers.

        Args:
            tensor: goes into the module or comes out of it.
            event: ``ENTER``, ``LEAVE`` or ``SOURCE``.
            name: path of the module.
        """
        raise NotImplementedError


def operands_in(structure: Any) -> Iterator[Tensor]:
    """The tensors among arguments or results, in lists, tuples and dicts too."""
    if isinstance(structure, Tensor):
        yield structure
    elif isinstance(structure, tuple | list):
        for item in structure:
            yield from operands_in(item)
    elif isinstance(structure, dict):
        yield from operands_in(list(structure.values()))
