"""``verify`` passes what is right, and fails every kind of sabotage."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

import fxbio
from fxbio.ops import broadcast as op
from fxbio.rules.projection import Channel, Conv, Dense
from fxbio.runtime.broadcast_scope import BroadcastScope
from tests.routes.nets import Convolutions, Perceptron, Residual, images, rows, transformed

SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("dfa", {}),
    ("dfa", {"projection": "shared", "init": "launay-2019"}),
    ("dfa", {"projection": "channel"}),
    ("dfa", {"projection": "sparse"}),
    ("dfa", {"projection": "conv", "at": "input", "skip": "sum"}),
    ("dfa", {"skip": "sum"}),
    ("drtp", {"projection": "channel"}),
    ("drtp", {"reduction": "sum"}),
    ("dgl", {"hidden": 5}),
    ("dgl", {"reduction": "sum"}),
]


@pytest.mark.parametrize(("rule", "options"), SHAPES, ids=str)
@pytest.mark.parametrize("net", [Residual, Convolutions])
def test_good_models_pass(net: Any, rule: str, options: dict[str, Any]) -> None:
    x = images() if net is Convolutions else rows()
    model = transformed(net(), x, rule, **options)
    found = fxbio.verify(model)
    assert found.ok, found
    layers = {"one", "two", "last"} | ({"stem"} if net is Residual else set())
    assert {row.site for row in found.rows} == layers
    lowest = "stem" if net is Residual else "one"
    for row in found.rows:
        exact = row.site == "last" and options.get("at") != "input"
        at_input = row.site == lowest and options.get("at") == "input"
        assert row.calls == (0 if exact or at_input else 1)
        assert (row.path == "the error itself") == exact
    assert json.loads(json.dumps(found.to_dict()))["rows"][0]["path"]


def bad(model: Any) -> dict[str, str]:
    found = fxbio.verify(model)
    assert not found.ok
    return {row.site: str(row.problem) for row in found.rows if not row.ok}


@pytest.mark.parametrize(
    ("projection", "options"),
    [
        (Dense, {}),
        (Channel, {"projection": "channel"}),
        (Conv, {"projection": "conv", "at": "input", "skip": "sum"}),
    ],
)
def test_a_wrong_projection(
    projection: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = transformed(Convolutions(), images(), **options)
    right = projection.project
    monkeypatch.setattr(projection, "project", lambda *args: 1.01 * right(*args))
    assert set(bad(model).values()) == {"was sent another error than its rule says"}


def test_wrong_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    right = op.recovered_labels
    monkeypatch.setattr(op, "recovered_labels", lambda *args: right(*args).flip(0))
    for rule in ("drtp", "dgl"):
        assert bad(transformed(Perceptron(), rows(), rule))["first"].startswith("was sent another")


def test_an_uncut_path(monkeypatch: pytest.MonkeyPatch) -> None:
    model = transformed(Residual(), rows())
    monkeypatch.setattr(BroadcastScope, "stop", lambda self, tensor, flows: tensor.view_as(tensor))
    found = bad(model)
    assert found["stem"] == found["one"] == "another error arrives there, too"


def test_a_receiver_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    model = transformed(Residual(), rows())
    right = BroadcastScope.note_receiver

    def forgetful(self: Any, unit: Any, tensor: Tensor) -> None:
        if unit.name != "one":
            right(self, unit, tensor)

    monkeypatch.setattr(BroadcastScope, "note_receiver", forgetful)
    assert bad(model) == {"one": "no error was sent to it"}


def test_what_is_frozen_is_no_fault() -> None:
    model = transformed(Perceptron(), rows())
    model.first.requires_grad_(False)
    found = fxbio.verify(model)
    assert found.ok, found
    assert {row.site: row.path for row in found.rows}["first"] == "nothing learns there"


def test_the_model_is_left_as_it_was() -> None:
    model = transformed(Convolutions(), images(), "dgl")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    fxbio.verify(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
