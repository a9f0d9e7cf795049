"""``verify`` passes good models, and fails every kind of sabotage."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fxbio
from fxbio.display import plain_text
from fxbio.errors import ModelError, UnreachableWeightError, VerificationError
from fxbio.ops.functional import Backward
from fxbio.passes import DEFAULT_PIPELINE
from fxbio.rules import make_rule
from fxbio.runtime.classes import unbind_module
from fxbio.runtime.module_state import binding_of, state_of
from fxbio.serialization.record import RECORD
from fxbio.verification.oracle import oracle_gradients, stock_output
from fxbio.verification.result import SiteVerdict
from tests.small import BUILDERS, build, policy, snapshot

RULES = ("fa", "usf", "frsf", "brsf", "signed-init", "frozen", "stop")


def made(rule: str = "fa", kind: str = "layers", **settings: Any) -> nn.Module:
    model, x = build(kind)
    return fxbio.transform(model, policy(rule, **settings), x, inplace=True)


def verdict(found: fxbio.Verification, site: str) -> SiteVerdict:
    return next(row for row in found.rows if row.site == site)


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("rule", RULES)
def test_good_models_pass(rule: str, kind: str) -> None:
    model = made(rule, kind)
    found = fxbio.verify(model)
    assert found.ok, found
    weights = {a.site.weight for a in model._fxbio_record.plan.rewritten()}
    assert len(found.rows) + len(found.idle) == len(weights)
    assert not found.idle  # a frozen layer at the very bottom is judged by its forward
    assert all(row.forward_equal and row.gradient_error <= 1e-4 for row in found.rows)
    sending = [row for row in found.rows if row.differs_from_bp is not None]
    assert all(row.differs_from_bp is (rule != "frozen") for row in sending)
    assert bool(sending) is (rule != "stop")


def test_all_backprop_has_nothing_to_verify() -> None:
    found = fxbio.verify(made("bp"))
    assert found.ok
    assert found.rows == ()
    assert found.idle == ()


def test_other_inputs_and_inputs_by_name() -> None:
    model = made()
    assert fxbio.verify(model, torch.randn(9, 6)).ok
    assert fxbio.verify(model, {"x": torch.randn(2, 6)}).ok


def test_a_stock_model_cannot_be_verified() -> None:
    with pytest.raises(ModelError, match="not a transformed model"):
        fxbio.verify(build()[0])


Patch = Callable[[Callable[..., Tensor]], None]


@pytest.fixture
def layer_runs(monkeypatch: pytest.MonkeyPatch) -> Patch:
    """Replaces what rewritten linear layers call."""

    def patch(function: Callable[..., Tensor]) -> None:
        monkeypatch.setattr("fxbio.runtime.leaf.linear", function)

    return patch


def _op(*args: Any, backward: Backward) -> Tensor:
    from fxbio.ops.functional import linear

    return linear(*args, backward=backward)


def test_an_op_with_the_gradient_of_backprop_fails(
    monkeypatch: pytest.MonkeyPatch, layer_runs: Patch
) -> None:
    """The op still says ``fa``, but its error goes through the weight."""
    model = made()
    monkeypatch.setattr(sys.modules["fxbio.ops.linear"], "feedback_of", lambda weight, *_: weight)
    found = fxbio.verify(model)
    assert not found.ok
    assert verdict(found, "second").problem == "gradients differ from the oracle's"


def test_backprops_gradient_in_the_clothes_of_a_rule_fails(layer_runs: Patch) -> None:
    """Feedback that is the weight plus a hair: oracle and op agree, but it is backprop."""
    model = made()

    def disguised(x: Tensor, weight: Tensor, bias: Tensor, *, backward: Backward) -> Tensor:
        hair = weight.detach() * (1 + 1e-6)
        return _op(x, weight, bias, backward=Backward(backward.rule, 1.0, hair))

    layer_runs(disguised)
    found = fxbio.verify(model)
    assert not found.ok
    assert verdict(found, "second").problem == "sends the error that backprop sends"
    assert verdict(found, "second").differs_from_bp is False


def test_a_stock_function_in_the_place_of_the_op_is_silent_backprop(layer_runs: Patch) -> None:
    model = made()
    layer_runs(lambda x, weight, bias, backward: F.linear(x, weight, bias))
    found = fxbio.verify(model)
    assert not found.ok
    assert found.silent_backprop == ("first.weight", "head.weight", "second.weight")
    assert found.idle == ("first", "second", "head")
    assert found.outputs_equal


def test_another_rule_than_planned_fails(layer_runs: Patch) -> None:
    model = made("usf")
    layer_runs(
        lambda x, weight, bias, backward: _op(
            x, weight, bias, backward=Backward("frozen", 1.0, None)
        )
    )
    found = fxbio.verify(model)
    assert not found.ok
    assert found.idle == ("first", "second", "head")


def test_zeroed_feedback_fails() -> None:
    """Feedback is what the buffer holds, but a rule that sends errors must not send none."""
    model = made()
    assert verdict(fxbio.verify(model), "second").ok
    model.second.fxbio_feedback_0.zero_()
    found = fxbio.verify(model)
    assert not found.ok
    assert verdict(found, "second").problem == "its feedback is all zeros, so it sends no error"
    assert verdict(found, "first").ok
    assert verdict(found, "head").ok


def test_other_feedback_than_was_drawn_is_feedback_all_the_same() -> None:
    """As after loading a checkpoint that holds feedback of another seed."""
    model = made()
    model.second.fxbio_feedback_0.normal_()
    assert fxbio.verify(model).ok


def test_feedback_of_a_weight_of_zeros_is_zeros() -> None:
    model = made("usf")
    with torch.no_grad():
        model.head.weight.zero_()
    assert verdict(fxbio.verify(model), "head").ok


def test_an_altered_forward_of_an_op_fails(layer_runs: Patch) -> None:
    model = made()
    layer_runs(lambda *args, backward: _op(*args, backward=backward) * 1.0001)
    found = fxbio.verify(model)
    assert not found.ok
    assert not found.outputs_equal


def test_an_altered_op_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock function is compared with what the op itself gave."""
    model = made()
    module = sys.modules["fxbio.verification.verify"]
    monkeypatch.setattr(module, "stock_output", lambda call: stock_output(call) * (1 + 1e-6))
    found = fxbio.verify(model)
    assert not found.ok
    assert {row.problem for row in found.rows} == {"the forward pass differs"}


@pytest.mark.parametrize(("rule", "learns"), [("bp", True), ("frozen", False)])
def test_a_binding_with_another_rule_fails(rule: str, learns: bool) -> None:
    model = made()
    binding = binding_of(model.second)
    broken = replace(binding.weights[0], rule=make_rule(rule), feedback=None)
    state_of(model.second).binding = replace(binding, weights=(broken,))
    found = fxbio.verify(model)
    assert not found.ok
    assert found.idle == ("second",)
    assert verdict(found, "second").problem == "its rule was never run"
    assert found.silent_backprop == (("second.weight",) if learns else ())


def test_gradients_that_are_no_numbers_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """An op that breaks down must not pass because NaN compares with nothing."""
    model = made()
    module = sys.modules["fxbio.verification.verify"]

    def spoiled(call: Any, *args: Any) -> dict[str, Tensor | None]:
        wanted = oracle_gradients(call, *args)
        call.gradients["weight"] = call.gradients["weight"] * torch.nan
        return wanted

    monkeypatch.setattr(module, "oracle_gradients", spoiled)
    found = fxbio.verify(model)
    assert not found.ok
    assert {row.gradient_error for row in found.rows} == {math.inf}


@pytest.mark.parametrize(
    ("kind", "path", "weights"),
    [
        ("layers", "second", {"second.weight"}),
        ("convolutions", "grouped", {"grouped.weight"}),
        ("functional", "", {"matrix", "kernel"}),
        ("attention", "attention", {"attention.in_proj_weight"}),
    ],
)
def test_a_module_that_got_its_class_back_is_silent_backprop(
    kind: str, path: str, weights: set[str]
) -> None:
    model = made("fa", kind)
    unbind_module(model.get_submodule(path))
    found = fxbio.verify(model)
    assert not found.ok
    assert weights <= set(found.silent_backprop)
    assert found.outputs_equal


def test_a_second_use_that_escapes_the_rule_is_silent_backprop() -> None:
    """The layer itself runs its rule, but its weight is also applied behind its back."""
    model = made()

    def forward(x: Tensor) -> Tensor:
        h = model.first(x)
        result: Tensor = model.head(model.second(h) + F.linear(h, model.second.weight))
        return result

    model.forward = forward
    found = fxbio.verify(model)
    assert found.silent_backprop == ("second.weight",)
    assert found.idle == ()
    assert not found.ok


def test_a_layer_that_did_not_run_is_idle_and_a_fault_where_capture_saw_it_run() -> None:
    model = made()
    model.forward = lambda x: model.head(torch.tanh(model.first(x)))
    found = fxbio.verify(model, torch.randn(9, 6))  # on other inputs another branch may run
    assert found.idle == ("second",)
    assert found.silent_backprop == ()
    assert found.ok
    again = fxbio.verify(model)
    assert not again.ok
    assert verdict(again, "second").problem == "its rule was never run"
    assert "no error could reach: second" in str(found)


def test_a_model_of_which_nothing_ran_does_not_pass() -> None:
    model = made()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    found = fxbio.verify(model)
    assert found.idle == ("first", "second", "head")
    assert not found.ok


class Dead(nn.Module):
    """The upper layer sends nothing but zeros down."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.relu(self.first(x) - 100.0))
        return result


def test_a_site_that_gets_only_zeros_is_judged_by_a_random_error() -> None:
    model = fxbio.transform(Dead(), policy(), torch.randn(4, 6, requires_grad=True))
    assert fxbio.verify(model).ok
    assert verdict(fxbio.verify(model), "first").differs_from_bp
    model.first.fxbio_feedback_0.zero_()
    assert verdict(fxbio.verify(model), "first").problem is not None


class Twice(nn.Module):
    """One layer whose second use gets zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x) + torch.relu(self.layer(-x) - 100.0)
        return result


def test_zeros_in_one_of_several_calls_are_no_fault() -> None:
    model = fxbio.transform(Twice(), policy(), torch.randn(4, 6))
    found = fxbio.verify(model)
    assert found.ok, found
    assert verdict(found, "layer").calls == 2


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_model_is_left_as_it_was(kind: str) -> None:
    model = made("brsf", kind)
    model.register_forward_hook(lambda *_: None)
    model.first_hook = next(iter(model.children())).register_forward_pre_hook(lambda *_: None)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    next(iter(model.children())).eval()
    before = snapshot(model)
    assert fxbio.verify(model).ok
    assert snapshot(model) == before


def test_a_model_that_fails_is_left_as_it_was_too() -> None:
    model = made()
    wrong = torch.randn(2, 5)
    before = snapshot(model)
    with pytest.raises(RuntimeError):
        fxbio.verify(model, wrong)
    assert snapshot(model) == before


def test_it_prints_and_goes_into_json() -> None:
    found = fxbio.verify(made("frsf"))
    text = str(found)
    assert text == plain_text(found.render())
    assert "3 of 3 rewritten sites follow their rule" in text
    assert "outputs bitwise equal to the original: yes" in text
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["ok"] is True
    assert [row["site"] for row in data["rows"]] == ["first", "second", "head"]
    assert data["rows"][1]["rule"] == "frsf"


def test_failures_are_printed_first() -> None:
    found = fxbio.verify(made())
    bad = replace(found.rows[2], problem="it is wrong")
    text = str(replace(found, rows=(*found.rows[:2], bad), silent_backprop=("x.weight",)))
    names = [line.split()[0] for line in text.splitlines()[1:4]]
    assert names == ["head", "first", "second"]
    assert "it is wrong" in text
    assert "2 of 3 rewritten sites" in text
    assert "silent backprop: x.weight was applied without its rule" in text


def test_many_good_sites_are_shown_by_rule() -> None:
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(22)))
    found = fxbio.verify(fxbio.transform(model, policy(), torch.randn(2, 3)))
    assert len(found.rows) == 22
    assert "22 sites" in str(found)
    assert "\n21 " not in str(found)


class Checkpointed(nn.Module):
    """A weight in a checkpointed closure is applied again where no rule can see it."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.matrix = nn.Parameter(torch.randn(8, 8))
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = checkpoint(
            lambda h: F.linear(torch.tanh(h), self.matrix),
            self.first(x),
            use_reentrant=self.reentrant,
        )
        return result


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_weight_in_a_checkpointed_closure_is_never_silent(reentrant: bool) -> None:
    model, x = Checkpointed(reentrant), torch.randn(4, 6)
    with pytest.raises(UnreachableWeightError, match="matrix"):
        fxbio.plan(model, policy("bp", rules="[{where: {index: 1}, rule: fa}]"), x)

    plan = fxbio.plan(model, policy(), x)
    kept = next(a for a in plan.assignments if a.site.weight == "matrix")
    assert kept.rule == "bp"
    assert "recomputes" in str(kept.fallback)
    assert fxbio.verify(fxbio.transform(model, plan, x)).ok

    # Were the plan forced, the rule would be lost in the second run, and somebody must notice.
    site = replace(kept.site, unreachable=None)
    other = next(a for a in plan.assignments if a.site.weight != "matrix")
    forced = replace(kept, site=site, rule="fa", options=other.options, fallback=None)
    plan = replace(
        plan,
        assignments=tuple(forced if a is kept else a for a in plan.assignments),
    )
    try:
        found = fxbio.verify(fxbio.transform(model, plan, x))
    except (VerificationError, torch.utils.checkpoint.CheckpointError):
        return
    assert not found.ok
    assert found.silent_backprop == ("matrix",)


def test_the_witness_runs_in_the_usual_pipeline() -> None:
    assert DEFAULT_PIPELINE.endswith(",check-witness")
    assert RECORD in vars(made())


@pytest.mark.parametrize(("magnitude", "told"), [(0.5, False), (1.9, False), (3.0, True)])
def test_errors_that_grow_are_told_of(magnitude: float, told: bool) -> None:
    signs = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).sign()
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 5))
    with torch.no_grad():
        model[1].weight.copy_(0.5 * signs)
    policy = fxbio.Policy.uniform("usf", magnitude=magnitude)
    fxbio.transform(model, policy, torch.randn(2, 3), inplace=True)
    verification = fxbio.verify(model)
    assert verification.ok
    gains = {row.site: row.gain for row in verification.rows}
    assert gains["0"] is None  # nothing is below it
    assert gains["1"] == pytest.approx(magnitude / 0.5, rel=1e-5)
    assert ("at 1 of 2 sites the error sent below is more than" in str(verification)) is told
