"""The tensors of nested structures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

__all__ = ["tensors_in"]

_CONTAINERS = (Tensor, list, tuple, dict)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of a nested structure of lists, tuples, dicts and plain objects."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))
    elif hasattr(value, "__dict__") and not isinstance(value, type | nn.Module):
        yield from tensors_in([v for v in vars(value).values() if isinstance(v, _CONTAINERS)])
