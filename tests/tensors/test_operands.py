"""Graph nets with sparse matrices keep their rules; what no rule crosses is named in the plan."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio
from fxbio.errors import UnreachableWeightError
from fxbio.tensors.operands import shape_of
from fxbio.viz import draw
from tests.graph.kinds import NESTED, SPARSE, adjacency, sequences

FA = fxbio.Policy.uniform("fa")
Apply = Callable[[Tensor, Tensor, str], Tensor]


def matmul(x: Tensor, weight: Tensor, name: str) -> Tensor:
    return x @ weight


class Holder:
    def __init__(self, held: Tensor) -> None:
        self.held = held


class GraphNet(nn.Module):
    """Two graph convolutions, ``A relu(A x W) V``."""

    def __init__(self, product: Callable[[Tensor, Tensor], Tensor] = torch.matmul) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.w1, self.w2 = nn.Parameter(torch.randn(6, 5) / 2), nn.Parameter(torch.randn(5, 3) / 2)
        self.product = product

    def adjacent(self, given: tuple[Tensor, ...]) -> Tensor:
        return given[0]

    def forward(self, x: Tensor, *given: Tensor, apply: Apply = matmul) -> Tensor:
        a = self.adjacent(given)
        h = torch.relu(self.product(a, apply(x, self.w1, "w1")))
        return self.product(a, apply(h, self.w2, "w2"))


class OfBuffer(GraphNet):
    def hold(self, a: Tensor) -> None:
        self.register_buffer("a", a)

    def adjacent(self, given: tuple[Tensor, ...]) -> Tensor:
        held: Tensor = self.a
        return held


class OfAttribute(OfBuffer):
    def hold(self, a: Tensor) -> None:
        self.a = a


class OfObject(OfBuffer):
    def hold(self, a: Tensor) -> None:
        self.inner = [Holder(a)]

    def adjacent(self, given: tuple[Tensor, ...]) -> Tensor:
        return self.inner[0].held


class OfEdges(OfBuffer):
    """Makes the matrix in its forward, as with edges of each example."""

    def hold(self, a: Tensor) -> None:
        self.register_buffer("edges", a.to_dense().nonzero().T)

    def adjacent(self, given: tuple[Tensor, ...]) -> Tensor:
        return torch.sparse_coo_tensor(self.edges, torch.ones(self.edges.shape[1]), (8, 8))


PLACES = {
    "input": GraphNet,
    "buffer": OfBuffer,
    "attribute": OfAttribute,
    "object": OfObject,
    "edges": OfEdges,
}
PRODUCTS = [torch.matmul, torch.sparse.mm, torch.spmm]


def features() -> Tensor:
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(4))


def built(place: str, kind: str, product: Any = torch.matmul) -> tuple[Any, tuple[Tensor, ...]]:
    model, a = PLACES[place](product), adjacency(kind)
    if isinstance(model, OfBuffer):
        model.hold(a)
        return model, (features(),)
    return model, (features(), a)


def assert_feedback_alignment(model: Any, inputs: tuple[Tensor, ...]) -> None:
    """The gradients of a transformed copy are those of plain autograd with B on the way back."""
    transformed = fxbio.transform(model, FA, inputs)
    feedback = fxbio.feedback_weights(transformed)
    assert feedback.keys() == {"w1", "w2"}

    def ruled(x: Tensor, weight: Tensor, name: str) -> Tensor:
        carrier = x @ feedback[name]
        return x.detach() @ weight + (carrier - carrier.detach())

    y = transformed(*inputs)
    error = torch.randn(y.shape, generator=torch.Generator().manual_seed(5))
    y.backward(error)
    assert torch.equal(y, model(*inputs))
    model(*inputs, apply=ruled).backward(error)
    for name, parameter in transformed.named_parameters():
        torch.testing.assert_close(parameter.grad, model.get_parameter(name).grad)


@pytest.mark.parametrize("kind", SPARSE)
@pytest.mark.parametrize("place", PLACES)
def test_graph_nets_learn_by_their_rule(place: str, kind: str) -> None:
    assert_feedback_alignment(*built(place, kind))


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("kind", ["coo", "csr"])
def test_every_product_with_a_sparse_matrix(product: Any, kind: str) -> None:
    assert_feedback_alignment(*built("buffer", kind, product))


@pytest.mark.parametrize("kind", SPARSE)
@pytest.mark.parametrize("place", PLACES)
def test_graph_nets_are_looked_at(place: str, kind: str) -> None:
    model, inputs = built(place, kind)
    transformed = fxbio.transform(model, FA, inputs)
    assert fxbio.verify(transformed, inputs).ok
    assert not fxbio.audit(transformed, inputs).transported("full")
    assert fxbio.alignment(transformed, inputs, Tensor.sum).rows
    assert {node.title for node in draw(transformed).nodes} >= {"w1", "w2"}


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_a_model_with_sparse_parameters_is_copied(kind: str) -> None:
    model = nn.Sequential(nn.Linear(8, 3))
    model.a = nn.Parameter(adjacency(kind), requires_grad=False)
    transformed = fxbio.transform(model, FA, torch.randn(2, 8))
    assert transformed.a is not model.a
    assert isinstance(transformed.a, nn.Parameter)
    assert not transformed.a.requires_grad
    assert torch.equal(transformed.a.to_dense(), adjacency())


@pytest.mark.parametrize("kind", SPARSE)
def test_a_transformed_model_is_copied_whatever_its_inputs(kind: str) -> None:
    model, inputs = built("input", kind)
    transformed = fxbio.transform(model, FA, inputs)
    assert torch.equal(copy.deepcopy(transformed)(*inputs), transformed(*inputs))


class Refused(nn.Module):
    """Two weights and a head, of which a rule reaches the head alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.w = nn.Linear(6, 5), nn.Parameter(torch.randn(5, 5) / 2)
        self.norm, self.head = nn.LayerNorm(5), nn.Linear(5, 2)

    def hidden(self, x: Tensor) -> Tensor:
        return self.norm(torch.relu(F.linear(torch.relu(self.first(x)), self.w)))


class OfNested(Refused):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.nested.to_padded_tensor(self.hidden(x), 0.0))


class NestedWithin(Refused):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        rows = [x[0, :3], x[1, :5], x[2, :2]]
        nested = torch.nested.as_nested_tensor(rows, layout=NESTED[self.kind])
        return self.head(torch.nested.to_padded_tensor(self.hidden(nested), 0.0))


class OfVmap(Refused):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.vmap(self.hidden)(x))


def dense() -> Tensor:
    return torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(6))


REFUSED: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], str]] = {
    "jagged": (OfNested, lambda: sequences("jagged"), "nested tensor"),
    "strided": (OfNested, lambda: sequences("strided"), "nested tensor"),
    "jagged within": (lambda: NestedWithin("jagged"), dense, "nested tensor"),
    "strided within": (lambda: NestedWithin("strided"), dense, "nested tensor"),
    "vmap": (OfVmap, dense, r"torch\.vmap"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_rule_can_cross_keeps_backprop_and_says_why(case: str) -> None:
    make, inputs, reason = REFUSED[case]
    model, x = make(), inputs()
    plan = fxbio.plan(model, FA, x)
    rules = {assignment.site.name: assignment for assignment in plan.assignments}
    assert rules["head"].rule == "fa"
    for name in ("first", "w", "norm"):
        assert rules[name].rule == "bp"
        assert re.search(reason, rules[name].site.unreachable or "")


@pytest.mark.parametrize("case", ["jagged", "strided within", "vmap"])
def test_an_entry_that_asks_for_it_is_refused_by_name(case: str) -> None:
    make, inputs, reason = REFUSED[case]
    entry = fxbio.Policy.from_yaml(
        "version: 1\ndefault: bp\nrules:\n  - {where: {module: first}, rule: fa}\n"
    )
    with pytest.raises(UnreachableWeightError, match=f"'first'(.|\n)*{reason}"):
        fxbio.transform(make(), entry, inputs())


@pytest.mark.parametrize("case", REFUSED)
def test_around_what_is_refused_the_rest_learns_by_its_rule(case: str) -> None:
    make, inputs, _ = REFUSED[case]
    model, x = make(), inputs()
    transformed = fxbio.transform(model, FA, x)
    assert fxbio.verify(transformed, x).ok
    transported = {row.site for row in fxbio.audit(transformed, x).transported("full")}
    assert "head" not in transported
    feedback = fxbio.feedback_weights(transformed)["head.weight"]
    transformed(x).sum().backward()
    model.head = nn.Identity()
    below = model(x)  # plain backprop, from the error that the feedback sends
    below.backward(torch.ones(*below.shape[:-1], 2) @ feedback)
    for name, parameter in transformed.named_parameters():
        if not name.startswith("head"):
            torch.testing.assert_close(parameter.grad, model.get_parameter(name).grad)


PRODUCTS_OF_FEATURES: dict[str, Callable[[Tensor, nn.Linear], Tensor]] = {
    "linear": lambda x, layer: F.linear(x, layer.weight),
    "matmul": lambda x, layer: x @ layer.weight.t(),
    "mm": lambda x, layer: torch.mm(x, layer.weight.t()),
    "sparse.mm": lambda x, layer: torch.sparse.mm(x, layer.weight.t()),
    "sparse.addmm": lambda x, layer: torch.sparse.addmm(torch.zeros(8, 5), x, layer.weight.t()),
}


class OfSparseFeatures(nn.Module):
    def __init__(self, product: Callable[[Tensor, nn.Linear], Tensor]) -> None:
        super().__init__()
        self.first, self.head, self.product = nn.Linear(8, 5), nn.Linear(5, 2), product

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.product(x, self.first)))


@pytest.mark.parametrize("kind", ["coo", "csr"])
@pytest.mark.parametrize("product", PRODUCTS_OF_FEATURES)
def test_weights_that_meet_sparse_features_are_named(product: str, kind: str) -> None:
    model, x = OfSparseFeatures(PRODUCTS_OF_FEATURES[product]), adjacency(kind)
    plan = fxbio.plan(model, FA, x)
    site = {assignment.site.weight: assignment for assignment in plan.assignments}.get(
        "first.weight"
    )
    listed = {name: part.reason for part in plan.unreachable for name in part.weights}
    reason = listed["first.weight"] if site is None else site.site.unreachable
    assert site is None or site.rule == "bp"
    assert "sparse" in (reason or "")
    transformed = fxbio.transform(model, FA, x)
    assert fxbio.verify(transformed, x).ok
    assert torch.equal(transformed(x), model(x))


@pytest.mark.parametrize("product", [torch.matmul, torch.sparse.mm])
def test_learned_edges_of_a_sparse_matrix_are_named(product: Any) -> None:
    class Weighted(OfEdges):
        def hold(self, a: Tensor) -> None:
            super().hold(a)
            self.strength = nn.Parameter(torch.rand(self.edges.shape[1]))

        def adjacent(self, given: tuple[Tensor, ...]) -> Tensor:
            return torch.sparse_coo_tensor(self.edges, self.strength, (8, 8))

    model = Weighted(product)
    model.hold(adjacency())
    plan = fxbio.plan(model, FA, features())
    refused = {a.site.weight: a.site.unreachable for a in plan.assignments if a.site.unreachable}
    refused |= {name: part.reason for part in plan.unreachable for name in part.weights}
    assert "sparse" in (refused["strength"] or "")
    transformed = fxbio.transform(model, FA, features())
    assert fxbio.verify(transformed, features()).ok
    found = fxbio.audit(transformed, features())
    transported = {row.site.split("#")[0]: row.transport for row in (*found.rows, *found.others)}
    assert transported.pop("strength") != "none"
    assert set(transported.values()) == {"none"}


def test_shapes_of_nested_tensors() -> None:
    assert shape_of(torch.zeros(2, 3)) == (2, 3)
    for kind in NESTED:
        assert shape_of(sequences(kind)) == (3, -1, 6)
