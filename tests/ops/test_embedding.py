"""The look-up op: rows bitwise those of torch, and the gradient of the table as torch sums it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxbio.errors import ModelError
from fxbio.ops import functional
from tests.ops.oracle import normal

IDS = torch.tensor([[3, 1, 3], [0, 6, 3]])
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "padding": {"padding_idx": 3},
    "padding from behind": {"padding_idx": -1},
    "by frequency": {"scale_grad_by_freq": True},
    "sparse": {"sparse": True},
    "renormalised": {"max_norm": 1.0, "norm_type": 2.0},
}
options = pytest.mark.parametrize("given", OPTIONS.values(), ids=OPTIONS)


def table() -> Tensor:
    return normal((7, 4), dtype=torch.float32).requires_grad_()


def by_hand(ids: Tensor, error: Tensor, rows: int, given: dict[str, Any]) -> Tensor:
    """The gradient of a table, row by row."""
    grad = torch.zeros(rows, error.shape[-1])
    skipped = given["padding_idx"] % rows if "padding_idx" in given else None
    for index, row in zip(ids.flatten().tolist(), error.flatten(0, 1), strict=True):
        often = int((ids == index).sum()) if given.get("scale_grad_by_freq") else 1
        if index != skipped:
            grad[index] += row / often
    return grad


@options
def test_rows_are_those_of_torch_and_each_gets_the_sum_of_its_errors(given: dict[str, Any]) -> None:
    ours, theirs = table(), table()
    backward = functional.Backward("stop", 1.0, None)
    found = functional.embedding(IDS, ours, **given, backward=backward)
    expected = F.embedding(IDS, theirs, **given)
    assert torch.equal(found, expected)
    assert torch.equal(ours, theirs)  # max_norm writes into the table
    error = normal(found.shape, seed=1, dtype=torch.float32)
    (grad,) = torch.autograd.grad(found, ours, error)
    assert grad.is_sparse == bool(given.get("sparse"))
    torch.testing.assert_close(grad.to_dense(), by_hand(IDS, error, 7, given))


@options
def test_a_frozen_table_gets_no_gradient_whatever_it_asks_for(given: dict[str, Any]) -> None:
    frozen = functional.Backward("frozen", 1.0, None)
    assert not functional.embedding(IDS, table(), **given, backward=frozen).requires_grad


class Lookup(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(table().detach())

    def forward(self, ids: Tensor) -> Tensor:
        backward = functional.Backward("stop", 1.0, None)
        return functional.embedding(ids, self.weight, padding_idx=3, backward=backward)


@pytest.mark.parametrize("way", ["compile", "export", "trace"])
def test_the_rule_is_in_the_graph_of_whoever_traces(way: str) -> None:
    module, eager = Lookup(), Lookup()
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    run: Any
    if way == "compile":
        run = torch.compile(module, fullgraph=True, backend=backend)
    elif way == "export":
        run = torch.export.export(module, (IDS,)).module()
    else:
        run = torch.fx.symbolic_trace(copy.deepcopy(module))
    out = run(IDS)
    if way != "compile":
        seen = [str(node.target) for node in run.graph.nodes]
    assert any("embedding" in name and "fxbio" in name for name in seen)
    out.square().sum().backward()
    eager(IDS).square().sum().backward()
    owner = module if way == "compile" else run
    assert torch.equal(owner.get_parameter("weight").grad, eager.weight.grad)
    torch._dynamo.reset()


def test_a_file_of_onnx_would_lose_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    with pytest.raises(ModelError, match="cannot keep a learning rule"):
        Lookup()(IDS)
