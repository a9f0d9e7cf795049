"""A weight that meets a tensor which capture did not see is never applied under backprop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio
from fxbio.errors import UnreachableWeightError

Change = Callable[[Tensor, Tensor], Tensor]


class Changed(nn.Linear):
    """A layer whose weight is changed before it is applied, once ``change`` is set."""

    change: Change | None = None
    extra: Tensor

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight if self.change is None else self.change(self.weight, self.extra)
        return F.linear(input, weight)


class Projected(nn.Module):
    """The same with a product, and with a weight of three dimensions."""

    def __init__(self, change: Change | None = None) -> None:
        super().__init__()
        self.heads = nn.Parameter(torch.randn(2, 4, 4))
        self.change = change
        self.extra = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        heads = self.heads if self.change is None else self.change(self.heads, self.extra)
        return torch.einsum("bi,hio->bho", x, heads).mean(1)


CHANGES: dict[str, Change] = {
    "mask": lambda w, m: w * m,
    "mask on the left": lambda w, m: m * w,
    "mask of transposed": lambda w, m: (w.mT * m).mT,
    "masked_fill": lambda w, m: w.masked_fill(m > 0, 0.0),
    "where": lambda w, m: torch.where(m > 0, w, torch.zeros(())),
    "adapter": lambda w, m: w + m @ m,
    "step": lambda w, m: w - 0.1 * m,
    "two of them": lambda w, m: (w * m).abs() + w,
    "norm": lambda w, m: w / (w * m).norm(),
    "rows": lambda w, m: w[m[..., 0].argsort()] if w.dim() == 2 else w[m[:, 0, 0].argsort()],
    "stack": lambda w, m: torch.stack([w, m]).sum(0),
}


def transformed(model: nn.Module, rule: str = "fa") -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), model)
    x = torch.randn(5, 4)
    text = f"version: 1\ndefault: bp\nrules:\n  - {{where: {{module: '2'}}, rule: {rule}}}\n"
    return fxbio.transform(net, fxbio.Policy.from_yaml(text), x, inplace=True), x


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("rule", ["fa", "kp", "frozen"])
def test_a_layer_with_a_tensor_set_after_transform_is_refused(change: Change, rule: str) -> None:
    model, x = transformed(Changed(4, 4, bias=False), rule)
    model[2].change, model[2].extra = change, torch.randn(4, 4)
    with pytest.raises(UnreachableWeightError) as caught:
        model(x)
    text = str(caught.value)
    assert "test_mixtures.py:" in text
    assert "2.weight is applied together with a tensor" in text
    assert f"rule '{rule}" in text
    assert "<policy>:4" in text
    assert "fxbio.revert(model)" in text


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_so_is_a_product(change: Change) -> None:
    model, x = transformed(Projected())
    model[2].change, model[2].extra = change, torch.randn(2, 4, 4)
    with pytest.raises(UnreachableWeightError, match=r"2\.heads is applied together"):
        model(x)


@pytest.mark.parametrize("product", [torch.matmul, lambda w, r: r @ w])
def test_so_is_a_rotated_weight(product: Change) -> None:
    model, x = transformed(Changed(4, 4, bias=False))
    model[2].change, model[2].extra = product, torch.eye(4)
    with pytest.raises(UnreachableWeightError, match=r"2\.weight is applied together"):
        model(x)


def test_without_gradients_and_under_backprop_it_runs() -> None:
    model, x = transformed(Changed(4, 4, bias=False))
    mask = torch.randn(4, 4)
    model[2].change, model[2].extra = CHANGES["mask"], mask
    expected = F.linear(torch.tanh(model[0](x)), model[2].weight * mask)
    with torch.no_grad():
        assert torch.equal(model(x), expected)
    with fxbio.backprop(model):
        assert torch.equal(model(x), expected)


@pytest.mark.parametrize("change", list(CHANGES.values())[:5], ids=list(CHANGES)[:5])
def test_what_a_module_held_at_capture_has_its_rule_and_may_be_replaced(change: Change) -> None:
    layer = Changed(4, 4, bias=False)
    layer.change = change
    layer.extra = torch.ones(4, 4)
    model, x = transformed(layer)
    layer.extra = torch.rand(4, 4) - 0.5  # as sparse training does after each epoch
    error = torch.randn(5, 4)
    model(x).backward(error)
    feedback: Any = layer.fxbio_feedback_0  # as it was drawn: a mask is no part of it
    below = (error @ feedback) * (1 - torch.tanh(model[0](x).detach()) ** 2)
    torch.testing.assert_close(model[0].weight.grad, below.mT @ x)


class Positions(nn.Module):
    """Queries that are multiplied with what they are added to, as in relative attention."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        scores = x @ self.queries.mT + x @ (x + self.queries).mT
        return scores.softmax(-1) @ (x + self.queries)


class Gate(nn.Module):
    """A matrix that is applied and scales entry by entry too."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        gated = x * self.gate
        return (gated @ gated.mT) @ x + F.linear(x, self.gate.mT @ self.gate)


class Tied(nn.Module):
    """A table that is the head as well, and whose rows are read by index."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        ids = x[..., 0].abs().long() % 6
        rows = self.table[ids] + F.embedding(ids, self.table)
        return F.linear(rows.softmax(-1) @ rows.mT @ x, self.table)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("build", [Positions, Gate, Tied])
def test_activations_that_a_weight_meets_are_no_fault(
    build: Callable[[], nn.Module], rows: int
) -> None:
    torch.manual_seed(0)
    x = torch.randn(rows, 3, 4)
    model = fxbio.transform(nn.Sequential(nn.Linear(4, 4), build()), fxbio.Policy.uniform("fa"), x)
    model(x).sum().backward()
    assert fxbio.verify(model).ok


def test_a_masked_head_is_refused_where_the_table_is_read_as_well() -> None:
    class MaskedTied(nn.Module):
        mask: Tensor | None = None

        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(6, 4)

        def forward(self, ids: Tensor) -> Tensor:
            head = self.embedding.weight
            return F.linear(self.embedding(ids), head if self.mask is None else head * self.mask)

    ids = torch.arange(6)
    model: Any = fxbio.transform(MaskedTied(), fxbio.Policy.uniform("fa"), ids)
    model.mask = torch.ones(6, 4)
    with pytest.raises(UnreachableWeightError, match=r"embedding\.weight is applied together"):
        model(ids)
