"""The storages behind a tensor of any kind: strided, sparse, nested, a wrapper, under ``vmap``."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import _disable_current_modes, is_traceable_wrapper_subclass
from torch.utils.weak import WeakIdRef

__all__ = ["is_sparse", "storage_key", "stored_parts"]

_SPARSE_PARTS = {
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}
"""By layout, the methods that give the parts of a sparse tensor."""
_PLAIN = {Tensor, nn.Parameter, FakeTensor}
"""Classes that wrap no other tensor: to ask an object takes longer."""


def is_sparse(tensor: Tensor) -> bool:
    """True if a tensor has one of the sparse layouts, coordinates or compressed."""
    return tensor.layout in _SPARSE_PARTS


def stored_parts(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors with a storage that a tensor is made of; of a plain one, itself.

    Opaque tensors, such as those of oneDNN, have none.
    """
    wrapper: Any = tensor
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        yield from stored_parts(torch._C._functorch.get_unwrapped(tensor))
    elif type(tensor) not in _PLAIN and is_traceable_wrapper_subclass(wrapper):
        names, _ = wrapper.__tensor_flatten__()
        for name in names:
            part = getattr(wrapper, name)
            yield from stored_parts(part) if isinstance(part, Tensor) else ()
    elif (layout := tensor.layout) in _SPARSE_PARTS:
        yield from _inner_parts(tensor, _SPARSE_PARTS[layout])
    elif tensor.is_nested:
        yield from _inner_parts(tensor, ("values",))
    elif layout is torch.strided:
        yield tensor


def _inner_parts(tensor: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    # Whoever watches the operations of a model asks for these, and must not watch himself.
    with _disable_current_modes(), torch._C.DisableTorchFunction(), torch.no_grad():
        return [getattr(tensor, name)() for name in names]


def storage_key(tensor: Tensor) -> Hashable:
    """Identity of a memory, common to all tensors over it.

    Autograd hands out new tensor objects for views, so storages are followed instead.
    """
    parts = tuple(StorageWeakRef(part.untyped_storage()) for part in stored_parts(tensor))
    return parts or (WeakIdRef(tensor),)
