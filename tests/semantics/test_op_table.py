"""The table of operations: complete, without contradictions, and true to torch."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxbio.semantics.functions import applies_layer
from fxbio.semantics.leaves import leaf_kind
from fxbio.semantics.op_spec import OpSpec
from fxbio.semantics.op_table import OPERATIONS
from fxbio.site import OP_KINDS


def _id(spec: OpSpec) -> str:
    return spec.lowered.__name__


def test_no_function_and_no_layer_stands_in_two_rows() -> None:
    functions = [f for spec in OPERATIONS for f in spec.functions]
    layers = [cls for spec in OPERATIONS for cls in spec.layers]
    assert len(functions) == len(set(functions))
    assert len(layers) == len(set(layers))


def test_every_kind_of_site_is_made_by_a_layer_or_is_a_product() -> None:
    assert {kind for spec in OPERATIONS for kind in spec.layers.values()} == {*OP_KINDS} - {
        "matmul"
    }


@pytest.mark.parametrize("spec", OPERATIONS, ids=_id)
def test_the_op_of_a_row_takes_a_weight_and_a_rule(spec: OpSpec) -> None:
    schema = getattr(torch.ops.fxbio, spec.op).default._schema
    names = {argument.name for argument in schema.arguments}
    assert "rule" in names
    assert "weight" in names or {"left", "right", "weight_is_left"} <= names


LAYERS: dict[type[nn.Module], Callable[[], nn.Module]] = {
    nn.Linear: lambda: nn.Linear(4, 4),
    **{getattr(nn, f"Conv{d}d"): lambda d=d: getattr(nn, f"Conv{d}d")(4, 4, 1) for d in (1, 2, 3)},
    **{
        getattr(nn, f"ConvTranspose{d}d"): lambda d=d: getattr(nn, f"ConvTranspose{d}d")(4, 4, 1)
        for d in (1, 2, 3)
    },
    **{
        getattr(nn, f"BatchNorm{d}d"): lambda d=d: getattr(nn, f"BatchNorm{d}d")(4)
        for d in (1, 2, 3)
    },
    nn.LayerNorm: lambda: nn.LayerNorm(4),
    nn.GroupNorm: lambda: nn.GroupNorm(2, 4),
    nn.RMSNorm: lambda: nn.RMSNorm(4),
    **{
        getattr(nn, f"InstanceNorm{d}d"): lambda d=d: getattr(nn, f"InstanceNorm{d}d")(
            4, affine=True
        )
        for d in (1, 2, 3)
    },
    nn.Embedding: lambda: nn.Embedding(5, 4),
}


def test_the_layers_below_are_those_of_the_table() -> None:
    assert set(LAYERS) == {cls for spec in OPERATIONS for cls in spec.layers}


@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
def test_a_stock_layer_is_a_leaf_and_a_subclass_with_its_own_forward_is_none(
    cls: type[nn.Module],
) -> None:
    layer = LAYERS[cls]()
    (kind,) = (spec.layers[cls] for spec in OPERATIONS if cls in spec.layers)
    assert leaf_kind(layer) == kind

    class Own(cls):  # type: ignore[misc,valid-type]
        def forward(self, x: Tensor) -> Tensor:
            return x

    layer.__class__ = Own
    assert leaf_kind(layer) is None


PRODUCTS: dict[str, tuple[Any, Callable[[Tensor, Tensor], tuple[Any, ...]]]] = {
    "matmul": (torch.matmul, lambda x, w: (x, w)),
    "@": (Tensor.__matmul__, lambda x, w: (x, w)),
    "exported @": (operator.matmul, lambda x, w: (x, w)),
    "method": (Tensor.mm, lambda x, w: (x, w)),
    "mv": (torch.mv, lambda x, w: (w, x[0])),
    "mv, method": (Tensor.mv, lambda x, w: (w, x[0])),
    "addmm": (torch.addmm, lambda x, w: (x, x, w)),
    "addmm, method": (Tensor.addmm, lambda x, w: (x, x, w)),
    "addmm, on the left": (torch.addmm, lambda x, w: (x, w, x)),
    "einsum": (torch.einsum, lambda x, w: ("bi,io->bo", x, w)),
    "einsum of a list": (torch.einsum, lambda x, w: ("bi,io->bo", [x, w])),
}


@pytest.mark.parametrize("spelling", PRODUCTS)
def test_a_product_is_a_layer_if_a_parameter_takes_part(spelling: str) -> None:
    function, arranged = PRODUCTS[spelling]
    x, weight = torch.ones(4, 4), nn.Parameter(torch.ones(4, 4))
    assert applies_layer(function, arranged(x, weight), {})
    assert not applies_layer(function, arranged(x, weight.detach()), {})


@pytest.mark.parametrize(
    ("function", "expected"),
    [(F.linear, True), (torch.conv2d, True), (F.layer_norm, False), (torch.tanh, False)],
)
def test_functions_that_name_their_weight_need_no_parameter(function: Any, expected: bool) -> None:
    assert applies_layer(function, (torch.ones(2, 2),) * 2, {}) == expected
