from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxbio
from fxbio.policy import Policy, select
from tests.policy.toy import FakeGraph, make_graph, make_site

STEM, BN = "backbone.conv1", "backbone.bn1"
C11, C12, C21 = (f"backbone.layer{n}" for n in ("1.0.conv1", "1.0.conv2", "2.0.conv1"))
ATTN, CLS, CLS1, FC = "backbone.layer2.0.attn", "head.cls", "head.cls#1", "head.fc"
BACKBONE = [STEM, C11, C12, C21, ATTN]
EVERYTHING = [*BACKBONE, CLS, CLS1, FC]


def selected(where: object, graph: FakeGraph) -> list[str]:
    policy = Policy.uniform("bp").append(where=where, rule="fa")  # type: ignore[arg-type]
    return [site.name for site in select(policy.entries[0].where, graph)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"module": "**"}, EVERYTHING),
        ({"module": "backbone.**"}, BACKBONE),
        ({"module": ["head.*", STEM]}, [STEM, CLS, CLS1, FC]),
        ({"regex": r"backbone\.layer\d.*conv1"}, [C11, C21]),
        ({"regex": "layer1"}, []),
        ({"op": "linear"}, [ATTN, FC]),
        ({"op": "conv"}, [STEM, C11, C12, C21, CLS, CLS1]),
        ({"op": "conv2d"}, [STEM, C11, C12, C21, CLS, CLS1]),
        ({"op": "conv1d"}, []),
        ({"op": "conv_transpose"}, []),
        ({"op": "attention"}, [ATTN]),
        ({"op": "norm"}, [BN]),
        ({"op": ["norm", "linear"]}, [BN, ATTN, FC]),
        ({"type": "Linear"}, [ATTN, FC]),
        ({"type": ["Lin*", "Nothing"]}, [ATTN, FC]),
        ({"module": "backbone.**", "op": "linear"}, [ATTN]),
        ("backbone.**::linear", [ATTN]),
        ("head.*", [CLS, CLS1, FC]),
        ({"index": 0}, [STEM]),
        ({"index": -1}, [FC]),
        ({"index": [0, -2]}, [STEM, CLS, CLS1]),
        ({"index": "1:3"}, [C11, C12]),
        ({"index": "-2:"}, [CLS, CLS1, FC]),
        ({"index": ":1"}, [STEM]),
        ({"index": 99}, []),
        ({"first": True}, [STEM]),
        ({"first": 2}, [STEM, C11]),
        ({"last": True}, [FC]),
        ({"last": 2}, [CLS, CLS1, FC]),
        ({"module": "backbone.**", "last": True}, [ATTN]),
        ({"op": "conv", "last": True}, [CLS, CLS1]),
        ({"depth": [1, 2]}, [C11, C12]),
        ({"depth": [0, 1]}, [STEM, C11]),
        ({"depth": [0.0, 1.0]}, EVERYTHING),
        ({"depth": [0, 0.5]}, [STEM, C11, C12, C21]),
        ({"depth": [0.5, 1]}, [C21, ATTN, CLS, CLS1, FC]),
        ({"depth": [None, 1]}, [STEM, C11]),
        ({"depth": [5, None]}, [CLS, CLS1, FC]),
        ({"depth": [None, 0.0]}, [STEM]),
        ({"between": ["backbone.layer1.**", "backbone.layer2.**"]}, [C11, C12, C21, ATTN]),
        ({"between": [C12, CLS], "op": "conv"}, [C12, C21, CLS, CLS1]),
        ({"not": {"op": "conv"}}, [ATTN, FC]),
        ({"any": [{"first": True}, {"last": True}]}, [STEM, FC]),
        ({"any": [{"module": "head.cls"}, {"not": {"op": "conv"}}]}, [ATTN, CLS, CLS1, FC]),
        ({"all": [{"first": 3}, {"last": 5}]}, [C12]),
        # Nested selectors count among what the keys beside them leave.
        ({"module": "backbone.**", "any": [{"first": True}, {"last": True}]}, [STEM, ATTN]),
        ({"module": "backbone.**", "not": {"last": True}}, [STEM, C11, C12, C21]),
        # … and positions beside them count among what they leave.
        ({"not": {"op": "linear"}, "last": True}, [CLS, CLS1]),
        ({"any": [{"op": "norm"}, {"module": STEM}]}, [STEM, BN]),
        ({"module": "backbone.*", "not": {"op": "norm"}}, [STEM]),
    ],
)  # fmt: skip
def test_selection(where: object, expected: list[str], graph: FakeGraph) -> None:
    assert selected(where, graph) == expected


def test_a_weight_shared_by_two_modules_counts_at_its_first_use() -> None:
    graph = make_graph(
        [make_site("a"), make_site("b"), make_site("a_again", weight="a.weight"), make_site("c")]
    )
    assert selected({"first": True}, graph) == ["a", "a_again#1"]
    assert selected({"last": 2}, graph) == ["b", "c"]


def test_fractions_of_a_model_without_depth() -> None:
    assert selected({"depth": [0.0, 0.1]}, make_graph([make_site("only")])) == ["only"]


def test_conv_stands_for_all_dimensions() -> None:
    ops = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose3d", "matmul"]
    graph = make_graph([make_site(op, op) for op in ops])  # type: ignore[arg-type]
    assert selected({"op": "conv"}, graph) == ops[:3]
    assert selected({"op": "conv_transpose"}, graph) == ops[3:5]


class Branching(nn.Module):
    """Its middle layer runs on large inputs only."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        if h.mean() > 1e6:
            h = torch.relu(self.b(h))
        result: Tensor = self.out(h)
        return result


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"last": True}, ["out"]),
        ({"last": 2}, ["a", "out"]),
        ({"index": -1}, ["out"]),
        ({"first": 2}, ["a", "out"]),
        ({"module": "b", "last": True}, []),
        ({"not": {"last": True}}, ["a", "b"]),
    ],
)
def test_positions_count_the_layers_that_ran(where: dict[str, Any], expected: list[str]) -> None:
    graph = fxbio.capture(Branching(), torch.randn(4, 8))
    assert [site.name for site in graph.sites] == ["a", "out", "b"]
    assert set(selected(where, graph)) == set(expected)


def test_groups_of_parameters_count_the_layers_that_ran() -> None:
    model = fxbio.transform(Branching(), fxbio.Policy.uniform("fa"), torch.randn(4, 8))
    groups = fxbio.param_groups(model, [{"where": {"last": True}, "lr": 0.01}], lr=0.1)
    [last] = [group for group in groups if group["lr"] == 0.01]
    assert {id(p) for p in last["params"]} >= {id(model.out.weight)}
    assert id(model.b.weight) not in {id(p) for p in last["params"]}
