"""Registration of custom ops, and what their results must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["custom_op", "not_a_view"]


def custom_op(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Decorator that makes ``fxbio::name`` of a function, whose annotations are its schema.

    On fake tensors, which have shapes and no values, it runs the same function; so what the
    function calls must be torch's, and no value may decide what it does.
    """

    def define(function: Callable[..., Any]) -> Any:
        op = torch.library.custom_op(f"fxbio::{name}", function, mutates_args=())
        op.register_fake(function)
        return op

    return define


def not_a_view(result: Tensor) -> Tensor:
    """The same tensor, without the memory that it is a view of an intermediate result.

    ATen reshapes inside its own operations without leaving a trace; done in an op of ours it is
    seen, and autograd then forbids the in-place activation that follows.
    """
    if not result._is_view():
        return result
    own: Tensor = torch.ops.aten._unsafe_view(result, result.shape)
    return own
