"""Tensors that are not one block of memory: sparse in every layout, and nested."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["NESTED", "SPARSE", "adjacency", "sequences"]

SPARSE: dict[str, Callable[[Tensor], Tensor]] = {
    "coo": Tensor.to_sparse,
    "uncoalesced": lambda dense: _twice(dense.to_sparse()),
    "csr": Tensor.to_sparse_csr,
    "csc": Tensor.to_sparse_csc,
}
NESTED = {"jagged": torch.jagged, "strided": torch.strided}

with warnings.catch_warnings():  # torch says once in a process that each of them is young
    warnings.simplefilter("ignore")
    torch.eye(2).to_sparse_csr()
    torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.int64), torch.zeros(1))
    torch.nested.nested_tensor([torch.zeros(1)], layout=torch.strided)


def _twice(tensor: Tensor) -> Tensor:
    """The same matrix with each entry in two halves."""
    indices, values = tensor.indices().repeat(1, 2), tensor.values().repeat(2) / 2
    return torch.sparse_coo_tensor(indices, values, tensor.shape)


def adjacency(kind: str | None = None) -> Tensor:
    """(8, 8) with about half of the entries 1; dense without a kind."""
    generator = torch.Generator().manual_seed(1)
    dense = (torch.rand(8, 8, generator=generator) > 0.5).float()
    return dense if kind is None else SPARSE[kind](dense)


def sequences(kind: str) -> Tensor:
    """Three sequences of 3, 5 and 2 vectors of 6 numbers, nested."""
    generator = torch.Generator().manual_seed(2)
    rows = [torch.randn(length, 6, generator=generator) for length in (3, 5, 2)]
    return torch.nested.nested_tensor(rows, layout=NESTED[kind])
