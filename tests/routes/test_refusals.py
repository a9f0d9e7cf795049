"""What cannot be routed says so, with the line of the policy."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import fxbio
from fxbio.errors import FxbioError, ModelError, VerificationError
from fxbio.passes import DEFAULT_PIPELINE
from fxbio.runtime.classes import unbind_module
from tests.routes.nets import Perceptron, gradients, policy, rows, transformed

BLOCK: dict[str, Any] = {"at": "block", "block": "inner"}
Pair = namedtuple("Pair", ["main", "extra"])


class Inner(nn.Module):
    """Returns what it is told to."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer, self.kind = nn.Linear(6, 6), kind

    def forward(self, x: Tensor) -> Any:
        h = torch.tanh(self.layer(x))
        return {"tuple": (h, h + 1), "dict": {"a": h, "b": h}, "pair": Pair(h, h)}[self.kind]


class Outer(nn.Module):
    """A block that returns more than a tensor, and a head."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner, self.last = Inner(kind), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)
        h = out["a"] if isinstance(out, dict) else out[0]
        result: Tensor = self.last(h)
        return result


def refused(model: nn.Module, *entries: dict[str, Any], x: Any = None) -> str:
    """The message of a policy that cannot be carried out; the model is left alone."""
    before = type(model), list(model.state_dict())
    with pytest.raises(FxbioError) as caught:
        fxbio.transform(model, policy("bp", *entries), rows() if x is None else x, inplace=True)
    assert (type(model), list(model.state_dict())) == before
    assert not any("fxbio" in name for module in model.modules() for name in vars(module))
    return str(caught.value)


@pytest.mark.parametrize("kind", ["tuple", "dict", "pair"])
def test_a_block_that_returns_several_tensors(kind: str) -> None:
    text = refused(Outer(kind), {"where": "inner.**", "rule": "dfa", "with": BLOCK})
    assert "'inner' takes no tensor or returns several" in text
    assert "decided by <policy>" in text or "entry 1" in text


def test_a_model_that_returns_several_tensors() -> None:
    model = torchvision.models.googlenet(num_classes=3, init_weights=False)
    entry = {"where": {"module": "inception3a.**"}, "rule": "dfa"}
    text = refused(model, entry, x=torch.rand(2, 3, 64, 64))
    assert "with 3 tensors of real numbers: which error is to be sent?" in text
    assert "source: [head]" in text
    assert "entry 1" in text


def test_its_head_may_be_named() -> None:
    model = torchvision.models.googlenet(num_classes=3, init_weights=False)
    options = {"source": "fc", "projection": "channel"}
    entry = {"where": {"module": "inception5b.**", "op": "conv"}, "rule": "dfa", "with": options}
    made = transformed(model, torch.rand(2, 3, 64, 64), "bp", entry)
    assert {unit.split(".")[0] for _, unit in made._fxbio_binding.routes.deliveries} == {
        "inception5b"
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"source": "hed"}, "no module is called 'hed'"),
        ({"source": "first"}, "is not computed from what 'second' puts out"),
        ({"at": "block", "block": "blocks.*"}, "no block around 'second' is called"),
    ],
)
def test_sources_and_blocks_that_do_not_fit(entry: dict[str, Any], message: str) -> None:
    text = refused(Perceptron(), {"where": "second", "rule": "dfa", "with": entry})
    assert message in text
    assert "entry 1" in text


def test_two_rules_for_one_block() -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6)), nn.Linear(6, 3))
    options = {"at": "block", "block": "0"}
    text = refused(
        net,
        {"where": {"module": "0.0"}, "rule": "dfa", "with": options},
        {"where": {"module": "0.2"}, "rule": "drtp", "with": options},
    )
    assert "block '0' is given two rules" in text
    assert "entry 2" in text


def test_a_batch_that_is_folded_away() -> None:
    class Folding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = nn.Linear(3, 4), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.layer(x.reshape(-1, 3)))
            result: Tensor = self.last(h.reshape(len(x), -1))
            return result

    text = refused(Folding(), {"where": "layer", "rule": "dfa"})
    assert "the first dimensions differ" in text


def test_one_matrix_for_several_sizes() -> None:
    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = nn.Conv1d(1, 2, 3), nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = x.unsqueeze(1)
            sizes = (torch.relu(self.layer(part)).mean(-1) for part in (x, x[..., 2:]))
            result: Tensor = self.last(sum(sizes))
            return result

    assert "choose 'projection: channel'" in refused(Pyramid(), {"where": "layer", "rule": "dfa"})
    entry = {"where": "layer", "rule": "dfa", "with": {"projection": "channel"}}
    assert fxbio.verify(transformed(Pyramid(), rows(), "bp", entry)).ok


class Moody(nn.Module):
    """A layer that can run after the source of its error, or by another way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
        self.mood = "usual"

    def forward(self, x: Tensor) -> Tensor:
        if self.mood == "late":
            return self.head(x) + torch.tanh(self.layer(x))[:, :3]
        if self.mood == "headless":
            return torch.tanh(self.layer(x))
        return self.head(torch.tanh(self.layer(x)))


@pytest.mark.parametrize(
    ("mood", "message"), [("late", "ran after 'head'"), ("headless", "'head' did not run")]
)
def test_a_receiver_that_gets_nothing_in_an_actual_run(mood: str, message: str) -> None:
    entry = {"where": "layer", "rule": "dfa", "with": {"source": "head"}}
    model = transformed(Moody(), rows(), "bp", entry)
    gradients(model, model, rows())
    model.mood = mood
    with pytest.raises(ModelError, match="no error would reach 'layer'") as caught:
        model(rows())
    assert message in str(caught.value)
    assert "entry 1" in str(caught.value)
    with torch.no_grad():
        model(rows())


def test_a_layer_alone_does_not_learn_by_backprop() -> None:
    model = transformed(Perceptron(), rows())
    with pytest.raises(ModelError, match="'first' ran outside of the model"):
        model.first(rows()).sum().backward()
    with fxbio.backprop(model):
        model.first(rows()).sum().backward()


def test_a_matmul_in_the_model_itself_has_no_unit() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.last = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.last(torch.tanh(x @ self.matrix))
            return result

    assert "no module of its own" in refused(Bare(), {"where": {"op": "matmul"}, "rule": "dfa"})


def test_readable_code_shows_cuts_ports_and_what_is_sent() -> None:
    code = transformed(Perceptron(), rows())._fxbio_record.code[""]
    assert [line.split("  #")[0].strip() for line in code.splitlines() if "= ops." in line] == [
        "port = ops.port(relu, fxbio_route_0, 'first', 'dense{leading=1}')",
        "stop = ops.stop(relu)",
        "port_1 = ops.port(tanh, fxbio_route_1, 'second', 'dense{leading=1}')",
        "stop_1 = ops.stop(tanh)",
        "broadcast = ops.broadcast(last, [port, port_1], False, True)",
    ]


def test_without_the_pass_nothing_is_silent() -> None:
    pipeline = DEFAULT_PIPELINE.replace("route-errors,lower-broadcast,lower-local,", "")
    entry = {"where": "first", "rule": "usf"}
    with pytest.raises(VerificationError, match="sites do not run their rule") as caught:
        fxbio.transform(Perceptron(), policy("dfa", entry), rows(), pipeline=pipeline)
    assert "second: its error is not routed" in str(caught.value)


def test_a_unit_that_lost_its_marks_fails_the_verification() -> None:
    model = transformed(Perceptron(), rows())
    unbind_module(model.second)
    found = fxbio.verify(model)
    assert not found.ok
    (bad,) = (row for row in found.rows if not row.ok)
    assert bad.site == "second"
    assert bad.problem is not None
    assert bad.problem.startswith("it was replaced by a Linear without a rule")


class Wandering(nn.Module):
    """Its hidden layer is read by a layer, or by nothing that could receive."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 3), nn.Linear(3, 3)
        self.through_last = True

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        result: Tensor = self.last(h) if self.through_last else h.exp().sum(-1, keepdim=True)
        return result


def test_a_receiver_that_a_later_pass_does_not_meet_is_an_error() -> None:
    model = transformed(Wandering(), rows())
    model.through_last = False
    with pytest.raises(ModelError, match="no error would reach 'first'") as caught:
        model(rows())
    assert "<policy>" in str(caught.value)
    with torch.no_grad():
        model(rows())
