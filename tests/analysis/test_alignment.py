"""Alignment against closed forms, gradients by hand, and what it must leave alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio
from fxbio import log_alignment
from fxbio.analysis.angles import angle, cosine, norm_ratio, sign_concordance
from fxbio.errors import ModelError
from fxbio.rules import available_rules
from tests.analysis.nets import ConvNet, Perceptron, images, rows, under

LABELS = torch.tensor([0, 1, 2, 0])


def wide(draw: Any, rule: str) -> fxbio.Alignment:
    """Two layers with 40,000 weights each from one distribution."""
    model = nn.Sequential(nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 200))
    for layer in (model[0], model[2]):
        draw(layer.weight)
    x, error = torch.randn(4, 200), torch.randn(4, 200)
    return fxbio.alignment(under(model, x, rule), x, lambda y: (y * error).sum())


@pytest.mark.parametrize(
    ("draw", "rule", "degrees"),
    [
        (lambda w: nn.init.uniform_(w, -0.1, 0.1), "usf", 30.0),
        (
            lambda w: nn.init.normal_(w, std=0.1),
            "usf",
            math.degrees(math.acos(math.sqrt(2 / math.pi))),
        ),
        (lambda w: nn.init.uniform_(w, -0.1, 0.1), "signed-init", 30.0),
        (lambda w: nn.init.normal_(w, std=0.1), "fa", 90.0),
        (lambda w: nn.init.normal_(w, std=0.1), "kp", 90.0),
    ],
)
def test_angles_in_closed_form(draw: Any, rule: str, degrees: float) -> None:
    found = wide(draw, rule)
    for row in found.rows:
        assert row.weight_angle == pytest.approx(degrees, abs=1.0)
    # An error that is independent of the weights is turned by the same angle.
    assert found.rows[1].error_angle == pytest.approx(degrees, abs=4.0)
    assert found.rows[0].error_angle is None  # it sends no error below
    signs = 0.5 if degrees == 90.0 else 1.0
    assert found.rows[0].sign_concordance == pytest.approx(signs, abs=0.02)


def test_backprop_agrees_with_itself() -> None:
    found = fxbio.alignment(under(ConvNet(), images(), "bp"), images(), LABELS)
    assert [row.site for row in found.rows] == ["one", "two", "last"]
    for row in found.rows:
        assert (row.weight_angle, row.norm_ratio, row.error_angle) == (0.0, 1.0, 0.0)
        assert row.gradient_cosine == pytest.approx(1.0)
        assert row.valid


def test_magnitude_matched_by_norm() -> None:
    found = fxbio.alignment(under(Perceptron(), rows(), "{rule: fa, with: {magnitude: matched}}"))
    assert [row.norm_ratio for row in found.rows] == pytest.approx([1.0] * 3)


def test_gradients_by_hand() -> None:
    """Two layers, ``y = V tanh(W x)`` under FA: all that is reported, written out."""
    model = nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 3, bias=False))
    x, y = torch.randn(6, 5), torch.randn(6, 3)
    ruled: Any = under(model, x, "fa")
    found = fxbio.alignment(ruled, x, y).rows
    w, v = ruled[0].weight.detach(), ruled[2].weight.detach()
    b = fxbio.feedback_weights(ruled)["2.weight"]
    h = torch.tanh(x @ w.T)
    e = 2 * (h @ v.T - y) / y.numel()
    sent, wanted = e @ b, e @ v
    by_rule, by_bp = ((d * (1 - h**2)).T @ x for d in (sent, wanted))
    assert found[0].gradient_cosine == pytest.approx(_cosine(by_rule, by_bp), abs=1e-6)
    assert found[0].backprop_norm == pytest.approx(float(by_bp.norm()), rel=1e-5)
    assert found[1].error_angle == pytest.approx(
        math.degrees(math.acos(_cosine(sent, wanted))), abs=1e-3
    )
    assert found[1].weight_angle == pytest.approx(math.degrees(math.acos(_cosine(b, v))), abs=1e-3)
    assert found[1].norm_ratio == pytest.approx(float(b.norm() / v.norm()), rel=1e-6)
    assert found[1].gradient_cosine == pytest.approx(1.0, abs=1e-6)
    assert found[1].backprop_norm == pytest.approx(float((e.T @ h).norm()), rel=1e-5)


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(F.cosine_similarity(a.flatten(), b.flatten(), 0))


@pytest.mark.parametrize("rule", available_rules())
@pytest.mark.parametrize(("net", "x"), [(Perceptron, rows()), (ConvNet, images())])
def test_every_rule(rule: str, net: Any, x: Tensor) -> None:
    """Columns that make no sense are empty, and the last layer always learns as under backprop."""
    model = under(net(), x, rule)
    found = {row.site: row for row in fxbio.alignment(model, x, LABELS).rows}
    family = available_rules()[rule].family
    has_weights = family == "asymmetric" and rule != "stop"
    for row in found.values():
        assert (row.weight_angle is not None) == has_weights
        assert row.backprop_norm is not None
    assert (found["two"].error_angle is not None) == has_weights
    last = found["last"].gradient_cosine
    if rule == "frozen":
        assert last is None
    else:
        assert last == pytest.approx(1.0, abs=1e-5)


def test_nothing_is_left_behind() -> None:
    class Noisy(ConvNet):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(super().forward(x), 0.5, self.training)

    model = under(Noisy(), images(), "fa").eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    found = fxbio.alignment(model, images(), LABELS)
    assert found.rows[-1].gradient_cosine == pytest.approx(1.0)  # so both saw the same dropout
    assert not model.training
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())  # type: ignore[arg-type]
    assert fxbio.verify(model).ok


def test_a_cosine_of_rounding_is_marked_invalid() -> None:
    class Faint(Perceptron):
        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.one(x))
            result: Tensor = self.last(torch.tanh(1e-9 * self.two(h)) + torch.ones(7))
            return result

    found = fxbio.alignment(under(Faint(), rows(), "fa"), rows(), LABELS)
    assert [row.valid for row in found.rows] == [False, False, True]
    assert "mere rounding" in str(found)
    assert f"({found.rows[1].gradient_cosine:.3f})" in str(found)


def test_weights_that_are_normalised() -> None:
    model = Perceptron()
    torch.nn.utils.parametrizations.weight_norm(model.two)
    found = fxbio.alignment(under(model, rows(), "usf"), rows(), LABELS)
    assert found.rows[1].weight_angle == pytest.approx(30, abs=12)
    assert found.rows[1].error_angle is not None


def test_losses() -> None:
    model = under(Perceptron(), rows(), "fa")
    by_labels = fxbio.alignment(model, rows(), LABELS)
    by_function = fxbio.alignment(model, rows(), lambda y: F.cross_entropy(y, LABELS))
    assert by_labels.rows == by_function.rows
    with pytest.raises(ModelError, match="a loss cannot be str"):
        fxbio.alignment(model, rows(), "mse")
    with pytest.raises(ModelError, match="is not a transformed model"):
        fxbio.alignment(Perceptron(), rows())


def test_the_log_of_a_training_run(tmp_path: Path) -> None:
    """Under Kolen–Pollack with decay W and B meet, as the log shows."""
    model = under(Perceptron(), rows(), "kp")
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.03)
    file = tmp_path / "logs" / "alignment.jsonl"
    for step in range(61):
        if step % 20 == 0:
            log_alignment(file, step, model, rows(), LABELS)
        optimizer.zero_grad()
        F.cross_entropy(model(rows()), LABELS).backward()
        optimizer.step()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [0] * 3 + [20] * 3 + [40] * 3 + [60] * 3
    angles = [line["weight_angle"] for line in lines if line["site"] == "two"]
    assert angles == sorted(angles, reverse=True)
    assert angles[-1] < 30 < 60 < angles[0]


def test_how_it_is_shown() -> None:
    found = fxbio.alignment(under(Perceptron(), rows(), "fa"), rows(), LABELS)
    assert "cos gradient" in str(found)
    assert found.cost > 0
    assert json.loads(json.dumps(found.to_dict()))["rows"][0]["site"] == "one"
    assert found._repr_html_().count("<tr>") == 4


def test_as_a_data_frame() -> None:
    """pandas is not a dependency: without it the error says what to install."""
    found = fxbio.alignment(under(Perceptron(), rows(), "fa"), rows(), LABELS)
    try:
        import pandas
    except ImportError:
        with pytest.raises(fxbio.FxbioError, match="pip install pandas"):
            found.to_pandas()
    else:
        assert isinstance(found.to_pandas(), pandas.DataFrame)


def test_measures() -> None:
    w = torch.tensor([3.0, -4.0, 0.0, 1.0])
    b = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert cosine(w, w) == 1.0
    assert angle(w, -w) == 180.0
    assert angle(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])) == pytest.approx(45.0)
    assert cosine(w, torch.zeros(4)) is None
    assert norm_ratio(torch.tensor([3.0, 4.0]), torch.tensor([6.0, 8.0])) == 2.0
    assert norm_ratio(torch.zeros(2), w) is None
    assert sign_concordance(w, b) == (0.5, 0.5)  # one agrees, one does not, two have a zero
    assert sign_concordance(w, torch.zeros(4)) == (None, 1.0)
