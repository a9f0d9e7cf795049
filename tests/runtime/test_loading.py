"""Checkpoints: stock ones load strictly, whole ones resume exactly, parts are refused."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fxbio
from tests.runtime.learning import OPTIONS, batch, feedback_of, network, train, transformed

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
def test_so_is_one_in_a_container_within_the_model(rule: str) -> None:
    policy = fxbio.Policy.uniform(rule, **OPTIONS[rule])
    body = fxbio.transform(nn.Sequential(network()), policy, (batch(),))[0]
    state = {k: v for k, v in body.state_dict().items() if not k.startswith("0.fxbio")}
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"0\.fxbio") as caught:
        body.load_state_dict(state)
    assert str(caught.value).count('"0.fxbio_feedback_0"') == 1
    body.load_state_dict(network().state_dict())


def test_one_part_of_what_several_rules_added_is_refused() -> None:
    """A classifier of the model, a learned feedback and a stored one of two of its layers."""
    text = """
        version: 1
        persist_feedback: true
        default: bp
        rules:
          - {where: {module: "0"}, rule: dgl}
          - {where: {module: "3.layer"}, rule: kp}
          - {where: {module: "5"}, rule: fa}
    """
    model = fxbio.transform(network(), fxbio.Policy.from_yaml(text), (batch(),))
    whole, stock = model.state_dict(), network().state_dict()
    added = whole.keys() - stock.keys()
    assert {name.partition("fxbio")[0] for name in added} == {"", "3.layer.", "5."}
    assert not model.load_state_dict(stock).missing_keys
    for key in added:
        found = model.load_state_dict({**stock, key: whole[key]}, strict=False)
        assert sorted(found.missing_keys) == sorted(added - {key})


ROADS: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda model: model,
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "renamed": lambda model: nn.ModuleDict({"other": model})["other"],
}


@every_rule
@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("assign", [False, True])
def test_what_stock_weights_bring_and_leave(rule: str, road: str, assign: bool) -> None:
    """As a model that is transformed with these weights; what was learned stays."""
    trained = network()
    train(trained, optimizer_of(trained), steps=2)
    state = {key: value.clone() for key, value in trained.state_dict().items()}
    policy = fxbio.Policy.uniform(rule, **OPTIONS[rule])
    wanted = feedback_of(fxbio.transform(trained, policy, (batch(),)))
    model = transformed(rule)
    train(model, optimizer_of(model), steps=2)
    learned = {name: p.detach().clone() for name, p in model.named_parameters() if "fxbio" in name}
    model = ROADS[road](model)
    model.load_state_dict(state, assign=assign)
    for name, found in feedback_of(model).items():
        assert torch.equal(found, learned.get(name, wanted[name])), name
    assert torch.equal(model[0].weight, state["0.weight"])
    train(model, optimizer_of(model), steps=2)


@every_rule
def test_a_wrapper_has_a_prefix_of_its_own(rule: str) -> None:
    model = nn.DataParallel(transformed(rule))
    assert not model.load_state_dict(nn.DataParallel(network()).state_dict()).missing_keys
    state = {k: v for k, v in model.state_dict().items() if k != "module.0.fxbio_feedback_0"}
    with pytest.raises(RuntimeError, match=r'Missing key\(s\).*"module\.0\.fxbio_feedback_0"'):
        model.load_state_dict(state)


@every_rule
def test_a_layer_with_two_names_has_its_feedback_under_both(rule: str) -> None:
    def tied() -> nn.Sequential:
        net = network()
        return nn.Sequential(*net, nn.Linear(3, 16), nn.Tanh(), net[3], net[5])

    policy = fxbio.Policy.uniform(rule, **OPTIONS[rule])
    model = fxbio.transform(tied(), policy, (batch(),))
    stock, state = tied().state_dict(), model.state_dict()
    assert {"5.fxbio_feedback_0", "9.fxbio_feedback_0"} <= state.keys()
    assert not model.load_state_dict(stock).missing_keys
    model.load_state_dict(state)
    del state["9.fxbio_feedback_0"]
    assert model.load_state_dict(state, strict=False).missing_keys == ["9.fxbio_feedback_0"]


@every_rule
def test_stock_checkpoints_load_while_backprop_runs(rule: str) -> None:
    model = transformed(rule)
    with fxbio.backprop(model):
        model.load_state_dict(network().state_dict())
    model.load_state_dict(network().state_dict())


def test_a_load_that_failed_leaves_the_next_one_alone() -> None:
    """Copies in a checkpoint are not drawn again because another one had none."""
    model = transformed("fbp")
    train(model, optimizer_of(model), steps=3)
    whole = {key: value.clone() for key, value in model.state_dict().items()}

    def fail(*args: Any) -> None:
        raise OSError("no")

    handle = model[0].register_load_state_dict_pre_hook(fail)
    with pytest.raises(OSError, match="no"):
        model.load_state_dict(network().state_dict())
    handle.remove()
    model.load_state_dict(whole)
    assert all(torch.equal(value, whole[key]) for key, value in model.state_dict().items())


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
