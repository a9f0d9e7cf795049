"""What a graph says about a model: order, depth, what lies between, and its cost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio
from fxbio.errors import CaptureError, ModelError
from fxbio.graph.model_graph import ModelGraph

WIDTH = 4


def conv(stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(WIDTH, WIDTH, 3, stride, padding=1)


class Residual(nn.Module):
    """stem → (a → b) + skip → head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = conv(), nn.BatchNorm2d(WIDTH)
        self.a, self.b, self.skip = conv(2), conv(), nn.Conv2d(WIDTH, WIDTH, 1, 2)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.stem(x)).relu()
        h = self.b(self.a(h).relu()) + self.skip(h)
        return self.head(h.mean(dim=(2, 3)))


class TwoBranches(nn.Module):
    """Two inputs with an encoder each, mixed by attention."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))
        self.right = nn.Linear(WIDTH, WIDTH)
        self.mix = nn.MultiheadAttention(WIDTH, 1, batch_first=True)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        left, right = self.left(x), self.right(y)
        return self.head(self.mix(left, right, right)[0])


@pytest.fixture
def residual() -> ModelGraph:
    return fxbio.capture(Residual(), torch.randn(2, WIDTH, 8, 8))


@pytest.fixture
def branches() -> ModelGraph:
    x = torch.randn(2, 3, WIDTH)
    return fxbio.capture(TwoBranches(), (x, x))


def by_name(graph: ModelGraph, field: str) -> dict[str, Any]:
    return {site.name: getattr(site, field) for site in graph.sites}


def test_depth_counts_the_longest_chain(residual: ModelGraph) -> None:
    depth = {"stem": 0, "norm": 0, "a": 1, "b": 2, "skip": 1, "head": 3}
    assert by_name(residual, "depth") == depth


def test_branches_have_depths_of_their_own(branches: ModelGraph) -> None:
    assert by_name(branches, "depth") == {
        **{"left.0": 0, "left.2": 1, "right": 0, "head": 4},
        **{"mix.in_proj_weight": 2, "mix.in_proj_weight#1": 1, "mix.out_proj": 3},
    }


def test_order_is_that_of_execution(residual: ModelGraph) -> None:
    assert list(by_name(residual, "order")) == ["stem", "norm", "a", "b", "skip", "head"]


def test_projections_of_attention_are_known(branches: ModelGraph) -> None:
    inside = {name for name, attention in by_name(branches, "attention").items() if attention}
    assert inside == {"mix.in_proj_weight", "mix.in_proj_weight#1", "mix.out_proj"}


def test_shapes_and_parameters(residual: ModelGraph) -> None:
    a = residual.site("a")
    assert (a.shape, a.input_shape, a.output_shape) == (
        (WIDTH, WIDTH, 3, 3),
        (2, WIDTH, 8, 8),
        (2, WIDTH, 4, 4),
    )
    assert a.parameters == WIDTH * WIDTH * 9
    assert a.groups == 1
    with pytest.raises(KeyError):
        residual.site("nowhere")


def test_between_follows_the_dataflow(residual: ModelGraph, branches: ModelGraph) -> None:
    assert residual.between(["stem"], ["b"]) == {"stem", "norm", "a", "b"}
    assert residual.between(["a"], ["skip"]) == set()
    assert residual.between(["stem"], ["head"]) == set(by_name(residual, "name"))
    assert branches.between(["right"], ["head"]) == {
        *("right", "mix.in_proj_weight#1", "mix.out_proj", "head")
    }


def test_the_networkx_view_has_every_site(residual: ModelGraph) -> None:
    flow = residual.to_networkx()
    sites = {data["site"] for _, data in flow.nodes(data=True)} - {None}
    assert sites == set(by_name(residual, "name"))
    assert flow.has_edge("stem", "norm")


def test_the_digest_is_that_of_the_structure() -> None:
    x = torch.randn(2, WIDTH, 8, 8)
    one, again = fxbio.capture(Residual(), x), fxbio.capture(Residual(), x)
    assert one.digest == again.digest
    wider = Residual()
    wider.head = nn.Linear(WIDTH, 3)
    assert fxbio.capture(wider, x).digest != one.digest


class InPlaceOnInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, WIDTH)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch.pop("x").mul_(2)
        return self.fc(x) * x.sum().item()


def test_inputs_are_left_alone_even_where_values_are_needed() -> None:
    batch = {"x": torch.ones(2, WIDTH)}
    fxbio.capture(InPlaceOnInput(), (batch,))
    assert torch.equal(batch["x"], torch.ones(2, WIDTH))


class WritesIntoWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.fc.weight.clamp_(-0.01, 0.01)
            self.fc.bias.data = self.fc.bias.data + float(x.sum())
        return self.fc(x)


def test_weights_that_a_forward_overwrites_are_restored() -> None:
    model = WritesIntoWeights()
    weight, bias = model.fc.weight.detach().clone(), model.fc.bias.detach().clone()
    fxbio.capture(model, torch.ones(2, WIDTH))
    assert torch.equal(model.fc.weight, weight)
    assert torch.equal(model.fc.bias, bias)


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).reshape(7, 11)


def test_an_error_of_the_forward_names_its_line() -> None:
    with pytest.raises(CaptureError, match="forward failed") as caught:
        fxbio.capture(Broken(), torch.ones(2, WIDTH))
    assert "test_model_graph.py" in str(caught.value)


def test_an_unknown_input_is_asked_for() -> None:
    with pytest.raises(ModelError, match="no example input"):
        fxbio.capture(Broken())


class Chain(nn.Module):
    """Layers one after the other, every other one with a norm."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(length))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(length // 2))

    def forward(self, x: Tensor) -> Tensor:
        for index, layer in enumerate(self.layers):
            x = x + layer(x).relu()
            if index % 2:
                x = self.norms[index // 2](x)
        return x


class FunctionalChain(nn.Module):
    """The same with raw parameters, all of them the root's."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(WIDTH, WIDTH) for _ in range(length))

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = F.linear(x, weight.tanh()).relu()
        return x


@pytest.mark.parametrize("chain", [Chain, FunctionalChain])
def test_the_cost_of_a_layer_does_not_grow_with_depth(chain: Callable[[int], nn.Module]) -> None:
    short, long = (work_of_capture(chain(n)) / n for n in (100, 400))
    assert long < 1.2 * short


def work_of_capture(model: nn.Module) -> int:
    """Calls of Python and C functions while a model is captured: work without a clock."""
    calls = 0

    def count(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    x = torch.randn(2, WIDTH)
    sys.setprofile(count)
    try:
        graph = fxbio.capture(model, x)
    finally:
        sys.setprofile(None)
    assert graph.sites[-1].depth >= len(graph.islands)
    return calls
