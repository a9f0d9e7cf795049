"""``fxbio.param_groups``: every parameter that learns in exactly one group."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxbio
from fxbio.errors import ModelError, PolicyError
from tests.battery.modules import Attention


class Net(nn.Module):
    """Convolution, norm, attention, a token, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.mix = Attention(8, 2)
        self.token = nn.Parameter(torch.zeros(8))
        self.head = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        features = torch.relu(self.norm(self.stem(x))).flatten(2).mT + self.token
        result: Tensor = self.head(self.mix(features).mean(1))
        return result


X = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def model(rule: str = "kp") -> nn.Module:
    return fxbio.transform(Net(), fxbio.Policy.uniform(rule), (X,))


def names(subject: nn.Module, groups: list[dict[str, Any]]) -> list[set[str]]:
    known = {id(p): name for name, p in subject.named_parameters()}
    return [{known[id(p)] for p in group["params"]} for group in groups]


def grouped(*groups: dict[str, Any], **defaults: Any) -> list[set[str]]:
    subject = model()
    found = names(subject, fxbio.param_groups(subject, groups, **defaults))
    assert sum(map(len, found)) == len(list(subject.parameters()))
    assert set().union(*found) == {name for name, _ in subject.named_parameters()}
    return found


FEEDBACK = {
    "stem.fxbio_feedback_0",
    "mix.attention.fxbio_feedback_0",
    "mix.attention.fxbio_feedback_1",
    "head.1.fxbio_feedback_0",
}
NORMS = {"norm.weight", "norm.bias", "head.0.weight", "head.0.bias"}
BIASES = {"stem.bias", "mix.attention.in_proj_bias", "mix.attention.out_proj.bias", "head.1.bias"}
WEIGHTS = {
    "token",
    "stem.weight",
    "mix.attention.in_proj_weight",
    "mix.attention.out_proj.weight",
    "head.1.weight",
}


def test_without_groups_all_are_in_one() -> None:
    [found] = grouped()
    assert found == FEEDBACK | NORMS | BIASES | WEIGHTS


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("weights", WEIGHTS),
        ("feedback", FEEDBACK),
        ("norms", NORMS),
        ("biases", BIASES),
        (["norms", "biases"], NORMS | BIASES),
    ],
)
def test_by_kind(kind: Any, wanted: set[str]) -> None:
    assert grouped({"params": kind})[1] == wanted


HEAD = {"head.1.weight", "head.1.bias", "head.1.fxbio_feedback_0"}


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ({"last": True}, HEAD),
        ("head.**", HEAD),
        ({"module": "head.**", "op": "linear"}, HEAD),
        ("stem", {"stem.weight", "stem.bias", "stem.fxbio_feedback_0"}),
        ({"op": "norm"}, NORMS),
        ({"op": "attention"}, {n for n in FEEDBACK | WEIGHTS | BIASES if n.startswith("mix")}),
    ],
)
def test_by_site(where: Any, wanted: set[str]) -> None:
    assert grouped({"where": where})[1] == wanted


def test_both_together_and_later_ones_win() -> None:
    rest, norms, head, bias = grouped(
        {"params": ["norms", "biases"], "weight_decay": 0.0},
        {"where": "head.*", "lr": 0.01},
        {"where": "head.*", "params": "biases", "lr": 0.02},
    )
    assert norms == (NORMS | BIASES) - {"head.1.bias"}
    assert head == HEAD - {"head.1.bias"}
    assert bias == {"head.1.bias"}
    assert rest == (FEEDBACK | WEIGHTS) - HEAD


def test_options_are_those_of_the_group_over_the_defaults() -> None:
    subject = model()
    groups = [{"params": "norms", "weight_decay": 0.0}, {"where": {"last": True}, "lr": 0.01}]
    optimizer = torch.optim.SGD(
        fxbio.param_groups(subject, groups, lr=0.1, weight_decay=1e-4), momentum=0.9
    )
    found = [(g["lr"], g["weight_decay"], g["momentum"]) for g in optimizer.param_groups]
    assert found == [(0.1, 1e-4, 0.9), (0.1, 0.0, 0.9), (0.01, 1e-4, 0.9)]


def test_a_group_that_later_ones_empty_is_left_out() -> None:
    assert len(grouped({"params": "norms"}, {"params": "norms"})) == 2


def test_frozen_parameters_are_in_no_group() -> None:
    subject = model("frozen")
    [found] = names(subject, fxbio.param_groups(subject))
    assert found == NORMS | BIASES | {"token"}


def test_shared_parameters_are_there_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.second(self.first(x))
            return result

    subject = fxbio.transform(Tied(), fxbio.Policy.uniform("kp"), (torch.randn(2, 4),))
    found = fxbio.param_groups(subject, [{"where": "first", "lr": 0.1}])
    assert names(subject, found)[1] == {
        "first.weight",
        "first.fxbio_feedback_0",
        "first.bias",
    }
    assert sum(len(group["params"]) for group in found) == len(list(subject.parameters()))


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"wheer": "head"}, r"unknown key 'wheer' in group 1\n.*did you mean 'where'"),
        ({"params": "norms", "weight_decy": 0}, r"did you mean 'weight_decay'"),
        ({"params": "bias"}, r"unknown params 'bias' in group 1\n.*did you mean 'biases'"),
        ({"where": "haed.**"}, r"'haed.\*\*' of group 1 matches no site of Net\n.*'head'"),
        ({"where": {"modul": "head"}}, r"unknown key 'modul'"),
        ({"where": "head.*", "params": "norms"}, r"selects no parameter of Net\n.*op: norm"),
        ({"where": {"between": ["stem", "head.1"]}}, r"'between' needs the dataflow"),
        ({"lr": 0.1}, r"group 1 says not what it selects"),
    ],
)
def test_mistakes_are_pointed_at(group: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        fxbio.param_groups(model(), [group])


def test_a_group_for_feedback_that_is_no_parameter() -> None:
    with pytest.raises(
        PolicyError, match=r"no parameter of Net\n.*none of its rules learns a feed"
    ):
        fxbio.param_groups(model("fa"), [{"params": "feedback", "lr": 1.0}])


def test_options_of_other_optimizers_may_be_given_with_a_default() -> None:
    found = fxbio.param_groups(model(), [{"params": "norms", "trust": 0.5}], trust=1.0)
    assert [group["trust"] for group in found] == [1.0, 0.5]


def test_a_stock_model_is_refused() -> None:
    with pytest.raises(ModelError, match="not a transformed model"):
        fxbio.param_groups(Net())
