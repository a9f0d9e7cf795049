"""Tensors that a rule can work on, and the shape of those that have none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from fxbio.tensors.storages import is_sparse

__all__ = ["shape_of", "unsupported_operand"]


def unsupported_operand(
    weight: Tensor, sources: Iterable[Tensor], others: Iterable[Tensor]
) -> str | None:
    """Reason why no rule can cross a product of these tensors; ``None`` where one can.

    Args:
        weight: what is applied.
        sources: parameters that it is computed from, itself included.
        others: what it is applied to, and what comes out.
    """
    operands = [weight, *others]
    if any(map(torch._C._functorch.is_functorch_wrapped_tensor, operands)):
        return "it is applied inside torch.vmap, where a rule cannot follow it"
    if any(operand.is_nested for operand in operands):
        return "it is applied to a nested tensor, which no rule knows; pad it before"
    if is_sparse(weight):
        return "the weight is a sparse tensor, and feedback is dense; apply weight.to_dense()"
    if any(map(is_sparse, operands)):
        return "it is applied to a sparse tensor; a rule needs a dense one, x.to_dense()"
    if any(tensor.is_complex() for tensor in (weight, *sources)):
        return "the weight is complex, and feedback is real; apply real and imaginary part apart"
    if not weight.is_floating_point():
        return f"the weight is of {weight.dtype}, which has no gradient"
    return None


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """The shape of a tensor, with -1 for the sizes in which the parts of a nested one differ."""
    if not tensor.is_nested:
        return tuple(tensor.shape)
    return tuple(_common_size(tensor, dim) for dim in range(tensor.dim()))


def _common_size(tensor: Tensor, dim: int) -> int:
    try:
        size: Any = tensor.size(dim)
    except RuntimeError:  # of a nested tensor with strided parts
        return -1
    return size if isinstance(size, int) else -1
