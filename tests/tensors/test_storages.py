"""Tensors of every kind are followed by their memory, and writes into them are undone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

from fxbio.graph.state_guard import Snapshot, preserved
from fxbio.tensors.storages import storage_key, stored_parts
from tests.graph.kinds import NESTED, SPARSE, adjacency, sequences

KINDS: dict[str, Callable[[], Tensor]] = {
    "dense": adjacency,
    **{kind: (lambda kind=kind: adjacency(kind)) for kind in SPARSE},  # type: ignore[misc]
    "bsr": lambda: adjacency().to_sparse_bsr((2, 2)),
    "bsc": lambda: adjacency().to_sparse_bsc((2, 2)),
    **{kind: (lambda kind=kind: sequences(kind)) for kind in NESTED},  # type: ignore[misc]
    "wrapper": lambda: TwoTensor(torch.zeros(3), torch.ones(3)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_is_that_of_the_memory(kind: str) -> None:
    tensor, other = KINDS[kind](), KINDS[kind]()
    assert storage_key(tensor) == storage_key(tensor.detach())
    assert storage_key(tensor) != storage_key(other)


def test_views_have_the_key_of_their_base() -> None:
    base = torch.zeros(4, 3)
    assert storage_key(base[1:].t()) == storage_key(base)


def test_a_sparse_tensor_is_not_its_values() -> None:
    values = torch.ones(8)
    made = torch.sparse_coo_tensor(torch.arange(8).repeat(2, 1), values)
    assert made._values().data_ptr() == values.data_ptr()
    assert storage_key(made) != storage_key(values)


def test_under_vmap_the_key_is_that_of_the_batch() -> None:
    batch, seen = torch.randn(4, 3), []

    def row(x: Tensor) -> Tensor:
        seen.append(storage_key(x))
        return x * 2

    torch.vmap(torch.vmap(row))(batch)
    assert seen == [storage_key(batch)]


def test_an_opaque_tensor_is_only_itself() -> None:
    tensor, other = torch.zeros(3, 4).to_mkldnn(), torch.zeros(3, 4).to_mkldnn()
    assert not list(stored_parts(tensor))
    assert storage_key(tensor) == storage_key(tensor)
    assert storage_key(tensor) != storage_key(other)


def scale(tensor: Tensor) -> None:
    tensor.mul_(3.0)


def replace_parts(tensor: Tensor) -> None:
    tensor.add_(tensor.clone().to_sparse_coo())


def write_values(tensor: Tensor) -> None:
    tensor._values().fill_(7.0) if tensor.layout is torch.sparse_coo else tensor.values().fill_(7.0)


def assign_data(tensor: Tensor) -> None:
    tensor.data = tensor.data * 2.0


WRITES = [
    *((kind, scale) for kind in ("dense", "coo", "uncoalesced", "csr", *NESTED)),
    *((kind, write_values) for kind in ("coo", "csr", "csc", "bsr", "bsc")),
    *((kind, assign_data) for kind in ("dense", "coo")),
    *((kind, replace_parts) for kind in ("coo", "uncoalesced")),
]


def values_of(tensor: Tensor) -> list[Tensor]:
    return [part.clone() for part in stored_parts(tensor)]


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize(
    ("kind", "write"), WRITES, ids=lambda each: getattr(each, "__name__", each)
)
def test_writes_are_undone(kind: str, write: Callable[[Tensor], None], watched: bool) -> None:
    module = nn.Module()
    module.register_buffer("held", KINDS[kind]())
    held = module.held
    before, address = values_of(held), [part.data_ptr() for part in stored_parts(held)]
    with preserved(Snapshot(module), watched=watched), torch.no_grad():
        write(held)
        assert not all(map(torch.equal, values_of(held), before))
    assert all(map(torch.equal, values_of(held), before))
    assert [part.data_ptr() for part in stored_parts(held)] == address
