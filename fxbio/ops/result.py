"""What a custom op returns must be a tensor of its own."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["not_a_view"]


def not_a_view(result: Tensor) -> Tensor:
    """The same tensor, without the memory that it is a view of an intermediate result.

    ATen reshapes inside its own operations without leaving a trace; done in an op of ours it is
    seen, and autograd then forbids the in-place activation that follows.
    """
    if not result._is_view():
        return result
    own: Tensor = torch.ops.aten._unsafe_view(result, result.shape)
    return own
