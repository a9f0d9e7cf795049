"""Parameters that ``fully_shard`` has divided among ranks, as DTensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["fill", "gathered"]


def gathered(tensor: Tensor) -> Tensor:
    """A whole tensor; of one that ``fully_shard`` has divided, what all ranks hold together."""
    gather = getattr(tensor, "full_tensor", None)  # of a DTensor, whose import takes long
    return tensor if gather is None else gather()


@torch.no_grad()
def fill(tensor: Tensor, value: Tensor) -> None:
    """Copy a whole tensor, the same on all ranks, into one that may be divided among them."""
    if not hasattr(tensor, "full_tensor"):
        tensor.copy_(value)
        return
    from torch.distributed.tensor import distribute_tensor

    divided: Any = tensor
    mesh, placements = divided.device_mesh, divided.placements
    tensor.copy_(distribute_tensor(value, mesh, placements, src_data_rank=None))
