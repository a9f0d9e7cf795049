"""Checkpoints: stock ones load strictly, whole ones resume exactly, parts are refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxbio
from tests.bind.learning import OPTIONS, batch, feedback_of, network, train, transformed

every_rule = pytest.mark.parametrize("rule", OPTIONS)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


@every_rule
@pytest.mark.parametrize("steps", [1, 3])
def test_an_interrupted_run_equals_an_uninterrupted_one(rule: str, steps: int) -> None:
    whole = transformed(rule)
    optimizer = optimizer_of(whole)
    train(whole, optimizer, steps=steps)
    saved: Any = (
        {key: value.clone() for key, value in whole.state_dict().items()},
        optimizer.state_dict(),
        fxbio.redraw_counts(whole),
    )
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    state, optimizer_state, counts = torch.load(file)
    resumed = transformed(rule)
    resumed.load_state_dict(state, strict=True)
    again = optimizer_of(resumed)
    again.load_state_dict(optimizer_state)
    fxbio.set_redraw_counts(resumed, counts)
    train(whole, optimizer, steps, steps=4)
    train(resumed, again, steps, steps=4)
    for (name, mine), theirs in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
    for name, mine in feedback_of(whole).items():
        assert torch.equal(mine, feedback_of(resumed)[name]), name


@every_rule
def test_a_stock_checkpoint_loads_strictly(rule: str) -> None:
    model = transformed(rule)
    before = feedback_of(model)
    model.load_state_dict(network().state_dict(), strict=True)
    if rule != "fbp":
        assert all(torch.equal(b, before[n]) for n, b in feedback_of(model).items())


@every_rule
def test_so_does_that_of_a_part(rule: str) -> None:
    model, stock = transformed(rule), network()
    model[3].load_state_dict(stock[3].state_dict(), strict=True)
    model[0].load_state_dict(stock[0].state_dict(), strict=True)


@every_rule
def test_so_does_one_of_a_larger_model(rule: str) -> None:
    larger = nn.ModuleDict({"net": transformed(rule)})
    larger.load_state_dict(nn.ModuleDict({"net": network()}).state_dict(), strict=True)


@every_rule
def test_a_part_of_the_feedback_is_refused(rule: str) -> None:
    model = transformed(rule)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("0.fxbio")}
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*0\.fxbio_feedback_0") as caught:
        model.load_state_dict(state, strict=True)
    assert "3.layer" not in str(caught.value)
    found = model.load_state_dict(state, strict=False)
    assert found.missing_keys
    assert all("fxbio" in key for key in found.missing_keys)


@every_rule
def test_other_missing_and_unexpected_keys_stay_errors(rule: str) -> None:
    model, state = transformed(rule), network().state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*0\.weight"):
        model.load_state_dict({k: v for k, v in state.items() if k != "0.weight"})
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\).*elsewhere"):
        model.load_state_dict({**state, "elsewhere": torch.ones(1)})
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\).*0\.fxbio_feedback_7"):
        model.load_state_dict({**state, "0.fxbio_feedback_7": torch.ones(1)})


@every_rule
def test_a_stock_model_does_not_take_feedback(rule: str) -> None:
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\).*fxbio_feedback"):
        network().load_state_dict(transformed(rule).state_dict())


@every_rule
def test_a_saved_folder_has_all_that_was_learned(rule: str, tmp_path: Path) -> None:
    model = transformed(rule)
    train(model, optimizer_of(model), steps=3)
    fxbio.save(model, tmp_path / "saved")
    loaded = fxbio.load(tmp_path / "saved", network(), (batch(),))
    assert feedback_of(loaded).keys() == feedback_of(model).keys()
    for name, mine in feedback_of(model).items():
        assert torch.equal(mine, feedback_of(loaded)[name]), name
    for one in (model, loaded):
        train(one, optimizer_of(one), 3, steps=3)
    for name, mine in feedback_of(model).items():
        assert torch.equal(mine, feedback_of(loaded)[name]), name
