"""How the custom ops are made known to torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["custom_op"]


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
