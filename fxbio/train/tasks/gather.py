"""All-gather of Python objects: the values of every rank, on every rank."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from fxbio.errors import FxbioError

__all__ = ["gathered", "on_first_rank"]

T = TypeVar("T")


def gathered(value: T, group: dist.ProcessGroup | None) -> list[T]:
    """The values of all ranks, in their order; one without a process group."""
    if not dist.is_initialized():
        return [value]
    values: list[T | None] = [None] * dist.get_world_size(group)
    dist.all_gather_object(values, value, group=group)
    return [value for value in values if value is not None]


def on_first_rank(compute: Callable[[], T], group: dist.ProcessGroup | None) -> T:
    """Compute once, on the first rank; all ranks get the result, or raise the same error."""
    outcome: list[T | FxbioError | None] = [None]
    if not dist.is_initialized() or dist.get_rank(group) == 0:
        try:
            outcome[0] = compute()
        except FxbioError as error:  # the other ranks would wait for ever
            outcome[0] = error
    if dist.is_initialized():
        dist.broadcast_object_list(outcome, group=group, group_src=0)
    result = outcome[0]
    if isinstance(result, FxbioError):
        raise result
    assert result is not None
    return result
