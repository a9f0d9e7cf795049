"""The audit's verdicts on every rule, on the published policy, and on code that hides something."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import fxbio
from fxbio.analysis.audit_report import FAIL_LEVELS
from fxbio.errors import CaptureError, ModelError
from fxbio.rules import available_rules
from tests.analysis.nets import ConvNet, Perceptron, images, rows, under

COPY, FULL, NONE, REFRESHED, SIGN = "copy", "full", "none", "refreshed", "sign"

# Transport at one, two and last; sites whose error skips their neighbour, and where it begins.
EXPECTED: dict[str, tuple[tuple[str, str, str], dict[str, str]]] = {
    "aa": ((NONE, NONE, NONE), {}),
    "ao-sdtp": ((FULL, NONE, NONE), {}),
    "bp": ((FULL, FULL, FULL), {}),
    "brsf": ((SIGN, SIGN, SIGN), {}),
    "dfa": ((FULL, NONE, NONE), {"one": "last"}),
    "dgl": ((FULL, NONE, NONE), {"one": "the labels", "two": "the labels"}),
    "drl": ((FULL, NONE, NONE), {}),
    "drtp": ((FULL, NONE, NONE), {"one": "the labels", "two": "the labels"}),
    "dtp": ((FULL, NONE, FULL), {}),  # the penultimate target is a step of backprop
    "fa": ((NONE, NONE, NONE), {}),
    "fbp": ((REFRESHED, REFRESHED, REFRESHED), {}),
    "frozen": ((FULL, FULL, FULL), {}),
    "frsf": ((SIGN, SIGN, SIGN), {}),
    "ia": ((NONE, NONE, NONE), {}),
    "kp": ((NONE, NONE, NONE), {}),
    "l-drl": ((FULL, NONE, NONE), {}),
    "pfa": ((NONE, NONE, NONE), {}),
    "pfa-o": ((NONE, NONE, NONE), {}),
    "sa": ((REFRESHED, REFRESHED, REFRESHED), {}),
    "sdtp": ((FULL, NONE, NONE), {}),
    "signed-init": ((COPY, COPY, COPY), {}),
    "stop": ((NONE, NONE, NONE), {}),
    "tp": ((FULL, NONE, NONE), {}),
    "usf": ((SIGN, SIGN, SIGN), {}),
    "wm": ((NONE, NONE, NONE), {}),
}
"""Under routed errors and targets the first layer meets no rule below: what it would send to the
input of the model goes through its weight."""


def verdicts(audit: fxbio.Audit) -> dict[str, str]:
    return {row.site: row.transport for row in (*audit.rows, *audit.others)}


def test_every_rule_is_expected() -> None:
    assert EXPECTED.keys() == available_rules().keys()


@pytest.mark.parametrize("rule", EXPECTED)
@pytest.mark.parametrize(("net", "x"), [(Perceptron, rows()), (ConvNet, images())])
def test_each_rule(rule: str, net: Callable[[], nn.Module], x: Tensor) -> None:
    audit = fxbio.audit(under(net(), x, rule))
    transports, skipping = EXPECTED[rule]
    found = {row.site: row for row in audit.rows}
    assert tuple(found[name].transport for name in ("one", "two", "last")) == transports
    assert found["one"].input_only == (transports[0] in (FULL, SIGN))
    flow = {row.site: row.sources[0].name for row in audit.rows if not row.local}
    assert flow == skipping
    if net is ConvNet and rule != "stop":
        assert found["norm"].transport == "magnitude"
        assert "1 batch-norm scale" in audit.claim or rule == "frozen"
    assert not audit.others
    assert not audit.unused


def test_the_policy_of_xiao_on_resnet18() -> None:
    """The known fact: 20 convolutions by sign, 20 scales, and the last layer whole."""
    model = torchvision.models.resnet18(num_classes=10)
    policy = fxbio.Policy.from_yaml("examples/policies/xiao-resnet.yaml")
    x = torch.randn(2, 3, 32, 32)
    audit = fxbio.audit(fxbio.transform(model, policy, x, inplace=True))
    assert audit.to_dict()["counts"] == {"sign": 20, "magnitude": 20, "full": 1}
    assert {row.op for row in audit.transported("sign")} == {"conv2d"}
    assert {row.op for row in audit.transported("magnitude")} == {"norm"}
    assert [row.site for row in audit.transported("full")] == ["fc"]
    assert all(row.local for row in audit.rows)
    assert "no forward weight is transported, except 20 batch-norm scales and fc" in audit.claim
    assert "xiao-resnet.yaml" in audit.rows[0].decided_by


def test_an_untransformed_model() -> None:
    audit = fxbio.audit(ConvNet(), images())
    assert verdicts(audit) == {"one": FULL, "norm": "magnitude", "two": FULL, "last": FULL}
    assert audit.policy is None
    assert audit.claim.startswith("all forward weights are transported")


class Carried(torch.autograd.Function):
    """A layer whose error goes back through what a function makes of its weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, carrier: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.carrier = carrier
        return x @ weight.t()

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        return error @ ctx.carrier(weight), error.t() @ x, None


class Hidden(nn.Module):
    """A model with such a layer in the middle."""

    def __init__(self, carrier: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 3)
        self.hidden = nn.Parameter(torch.randn(6, 6))
        self.register_buffer("noise", torch.rand(6, 6))
        self.carrier = carrier

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        h = Carried.apply(torch.tanh(self.first(x)), self.hidden, self.carrier)
        result: Tensor = self.last(torch.tanh(h))
        return result


NOISE = torch.rand(6, 6)


@pytest.mark.parametrize(
    ("carrier", "transport"),
    [
        (lambda w: w, FULL),
        (lambda w: (w.clone().double() * 3 + 1).float(), FULL),
        (lambda w: w.t().contiguous().t(), FULL),
        (lambda w: torch.where(w > 0, 1.0, -1.0), SIGN),
        (lambda w: w.sign() * NOISE, SIGN),
        (lambda w: torch.copysign(NOISE, w), SIGN),
        (lambda w: (w >= 0).float() - (w < 0).float(), SIGN),
        (lambda w: w.sign() * w.abs(), FULL),
        (lambda w: torch.where(w > 0.1, 1.0, -1.0), FULL),
        (lambda w: w.abs(), "magnitude"),
        (lambda w: w.square(), "magnitude"),
        (lambda w: NOISE * w.norm(), "magnitude"),
        (lambda w: NOISE, None),
        (lambda w: NOISE + 0 * torch.rand_like(w), None),
        (lambda w: torch.ones_like(w), None),
    ],
)
def test_what_a_backward_formula_hides(
    carrier: Callable[[Tensor], Tensor], transport: str | None
) -> None:
    audit = fxbio.audit(Hidden(carrier), rows())
    assert verdicts(audit).get("hidden") == transport
    if transport is not None:
        assert "CarriedBackward" in audit.others[0].type


def test_a_hook_that_brings_backprop_back() -> None:
    """The rule says random feedback, but a hook adds what backprop would send."""
    model: Any = under(Perceptron(), rows(), "fa")
    assert verdicts(fxbio.audit(model))["two"] == NONE
    model.two.register_full_backward_hook(lambda m, below, error: (error[0] @ m.weight,))
    assert verdicts(fxbio.audit(model))["two"] == FULL


def test_copies_in_buffers_are_no_transport() -> None:
    model: Any = Hidden(lambda w: w)
    model.carrier = lambda w: model.noise
    audit = fxbio.audit(model, rows())
    assert "hidden" not in verdicts(audit)
    assert "noise" in audit.carriers


def test_copies_that_training_refreshes_fail_every_check() -> None:
    """Refreshed after each update, a copy makes backprop to the last bit, whatever it is called."""
    audit = fxbio.audit(under(Perceptron(), rows(), "{rule: fbp, with: {refresh_every: 1}}"))
    for level in FAIL_LEVELS:
        assert {row.site for row in audit.failing(level)} == {"one", "two", "last"}
    assert "refreshed copies of 3 linear layers are" in audit.claim
    still = fxbio.audit(under(Perceptron(), rows(), "signed-init"))
    assert not any(still.failing(level) for level in FAIL_LEVELS)


def test_what_meets_the_gradient_of_a_weight_is_no_transport() -> None:
    """Weight normalisation and decay read weights, and carry no error to another layer."""
    model = Perceptron()
    torch.nn.utils.parametrizations.weight_norm(model.two)
    ruled = under(model, rows(), "fa")

    def loss(output: Tensor) -> Tensor:
        decay = sum(p.square().sum() for p in ruled.parameters())
        return output.square().sum() + 0.1 * decay

    audit = fxbio.audit(ruled, loss=loss)
    assert set(verdicts(audit).values()) == {NONE}
    assert verdicts(fxbio.audit(under(model, rows(), "bp")))["two"] == FULL


def test_a_scale_outside_of_sites() -> None:
    class Scaled(Perceptron):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.gamma

    audit = fxbio.audit(under(Scaled(), rows(), "fa"))
    assert [(row.site, row.transport) for row in audit.others] == [("gamma", "magnitude")]
    assert audit.claim == "no forward weight is transported, except gamma"


def test_skip_connections_are_local_and_recomputed_layers_are_seen() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
            self.last = nn.Linear(6, 3)

        def block(self, h: Tensor) -> Tensor:
            result: Tensor = self.b(torch.relu(self.a(h)))
            return result

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            h = h + self.block(h)
            h = h + torch.utils.checkpoint.checkpoint(self.block, h, use_reentrant=False)
            result: Tensor = self.last(h)
            return result

    audit = fxbio.audit(Residual(), rows())
    assert all(row.local and row.transport == FULL for row in audit.rows)
    assert {s.name for s in audit.rows[0].sources} == {"a", "a#1", "last"}


class Wasteful(torch.autograd.Function):
    """Computes a gradient for an input that has none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x.detach() @ weight.t()

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        return (error @ weight) * 0 if ctx.needs_input_grad[0] else None, error.t() @ x


def test_gradients_that_nobody_uses() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 6)
            self.hidden = nn.Parameter(torch.randn(6, 6))

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x)
            h.register_hook(lambda error: torch.zeros_like(error))
            return Wasteful.apply(h, self.hidden)  # type: ignore[no-any-return]

    audit = fxbio.audit(Cut(), rows())
    assert any(entry.endswith(": mm") for entry in audit.unused), audit.unused
    assert "hidden" not in verdicts(audit)


def test_a_model_that_needs_values() -> None:
    class Branching(Perceptron):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if float(x.sum()) > -1e9 else -x)

    model = under(Branching(), rows(), "usf")
    assert verdicts(fxbio.audit(model)) == {"one": SIGN, "two": SIGN, "last": SIGN}


def test_the_model_is_left_as_it_was() -> None:
    model = under(ConvNet(), images(), "kp").eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    fxbio.audit(model)
    assert not model.training
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda y: y.detach().sum(), "a scalar without a gradient"),
        (lambda y: y, r"shape \(4, 3\), which is no scalar"),
        (lambda y: 1.0, "float, which is no tensor"),
        (lambda y: y.nonsense(), "the loss failed: AttributeError"),
    ],
)
def test_a_loss_that_is_none(loss: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        fxbio.audit(Perceptron(), rows(), loss)
    assert "pass loss=" in str(caught.value)


def test_a_backward_pass_that_fails() -> None:
    model = Perceptron()
    model.two.register_full_backward_hook(lambda *_: 1 / 0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ModelError, match="the backward pass failed: ZeroDivisionError"):
        fxbio.audit(model, rows())


def test_a_forward_that_fails() -> None:
    with pytest.raises(CaptureError, match="the model's forward failed"):
        fxbio.audit(Perceptron(), torch.randn(2, 5))


def test_how_it_is_shown() -> None:
    audit = fxbio.audit(under(Perceptron(), rows(), "usf", "[{where: {last: true}, rule: bp}]"))
    text = str(audit)
    assert "sign*" in text
    assert "sign W" in text
    assert audit.claim == (
        "no forward weight is transported, except last; the signs of 1 linear layer are"
    )
    assert json.loads(json.dumps(audit.to_dict()))["rows"][1]["transport"] == "sign"
    page = audit._repr_html_()
    assert page.count("<tr>") == 4
    assert "&lt;policy&gt;:4 entry 1" in page
    assert len(audit.failing("full")) == 1
    assert len(audit.failing("sign")) == 2


def test_attention_on_activations_is_no_transport() -> None:
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    audit = fxbio.audit(under(encoder, torch.randn(2, 3, 8), "fa"))
    assert {row.transport for row in audit.rows if row.op != "norm"} == {NONE}
    assert all(row.local for row in audit.rows)


def test_what_a_hook_does_to_the_gradient_of_a_weight_is_no_transport() -> None:
    model: Any = under(Perceptron(), rows(), "fa")
    for layer in (model.one, model.two):
        layer.weight.register_hook(lambda g, w=layer.weight: g + 0.1 * w)
        layer.weight.register_hook(lambda g, w=layer.weight: g * (w > 0))
    assert set(verdicts(fxbio.audit(model)).values()) == {NONE}


def test_a_fused_recurrent_layer() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.last = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.last(self.cell(x)[0])
            return result

    found = verdicts(fxbio.audit(under(Recurrent(), torch.randn(2, 4, 5), "fa")))
    assert found == {"last": NONE, "cell.weight_ih_l0": FULL, "cell.weight_hh_l0": FULL}


def test_layer_scales_are_no_projections_of_errors() -> None:
    """Scaled residual branches: the claim counts the scales, and every error is local."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.last = nn.Linear(6, 6), nn.Linear(6, 3)
            self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
            self.scales = nn.ParameterList(torch.ones(6) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            h = self.stem(x)
            for block, scale in zip(self.blocks, self.scales, strict=True):
                h = h + scale * torch.relu(block(h))
            result: Tensor = self.last(h)
            return result

    audit = fxbio.audit(under(Scaled(), rows(), "fa"))
    assert audit.claim == "no forward weight is transported, except 4 other scales"


def test_a_use_without_gradients_is_told_apart() -> None:
    class Peeking(Perceptron):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.two(torch.relu(self.one(x)))
            return super().forward(x)

    audit = fxbio.audit(Peeking(), rows())
    assert verdicts(audit) == {"one": NONE, "two": NONE, "one#1": FULL, "two#1": FULL, "last": FULL}


def test_an_error_that_no_layer_above_reads() -> None:
    """Direct feedback below a last layer that does not learn comes from the loss itself."""
    model: Any = under(Perceptron(), rows(), "dfa")
    model.last.requires_grad_(False)
    audit = fxbio.audit(model)
    assert [[s.name for s in row.sources] for row in audit.rows] == [["the loss"], ["the loss"], []]
    assert [row.local for row in audit.rows] == [False, False, True]


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_reentrant_checkpoints_are_refused() -> None:
    class Checkpointed(Perceptron):
        def forward(self, x: Tensor) -> Tensor:
            h = torch.utils.checkpoint.checkpoint(self.one, x, use_reentrant=True)
            result: Tensor = self.last(torch.tanh(self.two(h)))
            return result

    with pytest.raises(ModelError, match="the backward pass failed") as caught:
        fxbio.audit(Checkpointed(), rows())
    assert "use_reentrant=False" in str(caught.value)


class Unrolled(nn.Module):
    """A recurrent net that begins with a state of zeros, or of a constant."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.start = start
        self.w_in, self.w_rec, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_full((len(x), 4), self.start)
        for step in x.unbind(1):
            h = torch.sigmoid(self.w_in(step)) * torch.tanh(self.w_rec(h)) + h
        result: Tensor = self.head(h)
        return result


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_a_start_state_does_not_make_a_recurrent_weight_transported(start: float) -> None:
    """Changing the weight between forward and backward leaves all other gradients as they were."""
    x = torch.randn(2, 5, 3)
    model = fxbio.transform(Unrolled(start), fxbio.Policy.uniform("fa"), x)
    assert moved_by(model, x, "w_rec.weight") == set()
    assert set(verdicts(fxbio.audit(model, x)).values()) == {NONE}


def moved_by(model: nn.Module, x: Tensor, weight: str) -> set[str]:
    """Parameters whose gradients another weight has an effect on in the backward pass alone."""

    def gradients(factor: float) -> dict[str, Tensor]:
        model.zero_grad()
        loss, parameter = model(x).square().mean(), model.get_parameter(weight)
        kept = parameter.detach().clone()
        parameter.data.mul_(factor)
        loss.backward()
        parameter.data.copy_(kept)
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    before, after = gradients(1.0), gradients(-3.0)
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_calls_in_time_are_one_row() -> None:
    x = torch.randn(2, 5, 3)
    model = fxbio.transform(Unrolled(0.0), fxbio.Policy.uniform("fa"), x)
    rows = {row["site"]: row["error from"] for row in fxbio.audit(model, x).records()}
    assert rows == {"w_in ×5": "head, w_rec", "w_rec ×5": "head, w_rec", "head": "the loss"}
