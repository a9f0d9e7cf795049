"""Learned feedback against closed forms: where it begins, where it ends, and how fast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxbio
from fxbio.errors import FxbioError, RuleError
from fxbio.rules import (
    FeedbackRule,
    WeightInfo,
    available_rules,
    learning_rule,
    make_rule,
    rule,
)
from fxbio.rules.random_feedback import LearnedFeedback

LEARNING = [
    name for name, cls in available_rules().items() if issubclass(cls, FeedbackRule) and cls.learns
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def angle(a: Tensor, b: Tensor) -> float:
    cosine = float((a * b).sum() / (a.norm() * b.norm()))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def network(*layers: nn.Module) -> nn.Sequential:
    """Layers with weights of Xavier's deviation, as most papers begin."""
    model = nn.Sequential(*layers)
    for seed, parameter in enumerate(model.parameters()):
        with torch.no_grad():
            parameter.copy_(normal(*parameter.shape, seed=seed) / math.sqrt(parameter[0].numel()))
    return model


def transformed(rule: str, model: nn.Module, x: Tensor, **options: Any) -> nn.Module:
    return fxbio.transform(model, fxbio.Policy.uniform(rule, **options), (x,))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        optimizer.step()


def feedback_only(model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    """An optimizer that leaves the forward weights where they are."""
    return torch.optim.SGD([p for n, p in model.named_parameters() if "fxbio" in n], **options)


@pytest.mark.parametrize("rule", LEARNING)
def test_begins_at_a_right_angle(rule: str) -> None:
    x = normal(2, 200)
    model = transformed(rule, network(nn.Linear(200, 300)), x)
    found = fxbio.feedback_weights(model)["0.weight"]
    assert angle(model[0].weight.detach(), found) == pytest.approx(90.0, abs=1.0)


def test_product_feedback_begins_smaller_by_its_own_fan() -> None:
    x = normal(1, 64, 5, 5)
    model = transformed("pfa", nn.Sequential(nn.Conv2d(64, 64, 3)), x)
    found = fxbio.feedback_weights(model)["0.weight"]
    assert found.std() == pytest.approx(math.sqrt(2 / (11 * 9 * 64)), rel=0.05)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_kolen_pollack_contracts(momentum: float) -> None:
    """``W − B`` obeys ``v ← μ v + λ d; d ← d − η v``, whatever the gradients."""
    eta, decay, x = 0.1, 0.2, normal(8, 6)
    model = transformed("kp", network(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), x)
    layers = [model[0], model[2]]
    begin = [(m.weight - m.fxbio_feedback_0).detach().clone() for m in layers]
    sgd = torch.optim.SGD(model.parameters(), lr=eta, momentum=momentum, weight_decay=decay)
    train(model, sgd, x, 20)
    distance, velocity = 1.0, 0.0
    for _ in range(20):
        velocity = momentum * velocity + decay * distance
        distance -= eta * velocity
    for layer, first in zip(layers, begin, strict=True):
        left = (layer.weight - layer.fxbio_feedback_0).detach()
        torch.testing.assert_close(left, distance * first, rtol=1e-4, atol=1e-5)


def test_kolen_pollack_is_exact_under_a_separate_decay() -> None:
    x = normal(8, 6)
    model = transformed("kp", network(nn.Linear(6, 5)), x)
    begin = (model[0].weight - model[0].fxbio_feedback_0).detach().clone()
    train(model, torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.2), x, 20)
    left = (model[0].weight - model[0].fxbio_feedback_0).detach()
    torch.testing.assert_close(left, 0.98**20 * begin, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["pfa", "pfa-o"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Linear(6, 4), (8, 6)),
        (lambda: nn.Conv2d(4, 6, 3, groups=2), (3, 4, 5, 5)),
        (lambda: nn.ConvTranspose2d(4, 6, 2, groups=2), (3, 4, 5, 5)),
    ],
)
def test_the_product_tends_to_the_fixed_part_times_the_weight(
    rule: str, layer: Any, shape: tuple[int, ...]
) -> None:
    """``R − B W`` shrinks by ``1 − ηλ`` in each step, whatever the gradients."""
    x = normal(*shape)
    model = transformed(rule, network(layer()), x)
    fixed = model[0].fxbio_feedback_0_drawn

    def distance() -> Tensor:
        groups = zip(fixed, rows_of(model[0].weight, model), strict=True)
        return (model[0].fxbio_feedback_0 - torch.stack([b @ w for b, w in groups])).detach()

    begin = distance().clone()
    train(model, torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5), x, 25)
    torch.testing.assert_close(distance(), 0.95**25 * begin, rtol=1e-3, atol=1e-5)
    path = rows_of(fxbio.feedback_weights(model)["0.weight"], model)
    product = [b.T @ r for b, r in zip(fixed, model[0].fxbio_feedback_0, strict=True)]
    torch.testing.assert_close(path, torch.stack(product).detach())


def rows_of(weight: Tensor, model: nn.Module) -> Tensor:
    """A weight as (groups, outputs, inputs), written for these three layers."""
    groups = getattr(model[0], "groups", 1)
    if isinstance(model[0], nn.ConvTranspose2d):
        parts = [part.transpose(0, 1).flatten(1) for part in weight.chunk(groups)]
    else:
        parts = [part.flatten(1) for part in weight.chunk(groups)]
    return torch.stack(parts)


@pytest.mark.parametrize(
    ("rule", "options", "degrees", "ratio"),
    [
        ("pfa", {"ratio": 10}, 17.55, 1.049),
        ("pfa", {"ratio": 2}, 35.26, 1.225),
        ("pfa-o", {}, 0.0, 1.0),
    ],
)
def test_the_product_ends_at_the_angle_of_the_closed_form(
    rule: str, options: dict[str, Any], degrees: float, ratio: float
) -> None:
    """``arccos 1/√(1 + 1/r)`` and ``√(1 + 1/r)`` for ``R = B W``."""
    x = normal(1, 20, 5, 5)
    model = transformed(rule, network(nn.Conv2d(20, 150, 3)), x, **options)
    with torch.no_grad():
        model[0].fxbio_feedback_0.copy_(
            model[0].fxbio_feedback_0_drawn @ model[0].weight.flatten(1)
        )
    path, weight = fxbio.feedback_weights(model)["0.weight"], model[0].weight.detach()
    assert angle(path, weight) == pytest.approx(degrees, abs=1.0)
    assert float(path.norm() / weight.norm()) == pytest.approx(ratio, abs=0.02)


@pytest.mark.parametrize(
    ("density", "degrees", "ratio"), [(0.25, 32.31, 0.296), (0.5, 24.09, 0.548)]
)
def test_a_sparse_product_ends_at_the_angle_of_the_closed_form(
    density: float, degrees: float, ratio: float
) -> None:
    """``arccos 1/√(1 + 1/(d r))`` and ``d √(1 + 1/(d r))`` for ``R = B W`` at a share d."""
    x = normal(2, 80)
    model = transformed("pfa", network(nn.Linear(80, 400)), x, density=density)
    learned, fixed = model[0].fxbio_feedback_0, model[0].fxbio_feedback_0_drawn
    for matrix in (learned, fixed):
        assert float((matrix != 0).float().mean()) == pytest.approx(density, abs=0.01)
    with torch.no_grad():
        learned.copy_((learned != 0) * (fixed @ model[0].weight))
    path, weight = fxbio.feedback_weights(model)["0.weight"], model[0].weight.detach()
    assert angle(path, weight) == pytest.approx(degrees, abs=1.0)
    assert float(path.norm() / weight.norm()) == pytest.approx(ratio, abs=0.02)


def test_zeros_of_a_sparse_product_stay_and_the_rest_is_tied() -> None:
    """``R − B W`` shrinks by ``1 − ηλ`` in each step where R is not zero."""
    x = normal(8, 6)
    model = transformed("pfa", network(nn.Linear(6, 4)), x, density=0.3)
    learned, fixed = model[0].fxbio_feedback_0, model[0].fxbio_feedback_0_drawn
    kept = learned.detach() != 0
    begin = (learned - fixed @ model[0].weight).detach()[kept]
    train(model, torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5), x, 25)
    assert torch.equal(learned != 0, kept)
    distance = (learned - fixed @ model[0].weight).detach()[kept]
    torch.testing.assert_close(distance, 0.95**25 * begin, rtol=1e-3, atol=1e-5)
    assert fxbio.verify(model).ok


@pytest.mark.parametrize("rule", ["sa", "aa"])
@pytest.mark.parametrize(("alpha", "beta"), [(0.25, 0.5), (0.5, 0.5)])
def test_symmetric_and_activation_alignment_end_at_the_weight(
    rule: str, alpha: float, beta: float
) -> None:
    """The fixed point ``(β/2α) W``, whatever the covariance of the inputs."""
    x = normal(64, 5) * torch.tensor([2.0, 1.0, 0.5, 1.0, 1.5])
    model = transformed(rule, network(nn.Linear(5, 7)), x, alpha=alpha, beta=beta)
    train(model, feedback_only(model, lr=0.25), x, 400)
    ratio = beta / (2 * alpha)
    torch.testing.assert_close(
        model[0].fxbio_feedback_0, ratio * model[0].weight, rtol=1e-3, atol=1e-4
    )


def test_activation_alignment_of_a_convolution_ends_at_the_weight() -> None:
    x = normal(16, 2, 8, 8)
    model = transformed("aa", network(nn.Conv2d(2, 4, 3, padding=1, groups=2)), x, share=0.2)
    train(model, feedback_only(model, lr=150.0), x, 300)
    torch.testing.assert_close(model[0].fxbio_feedback_0, model[0].weight, rtol=1e-2, atol=1e-3)


def test_information_alignment_ends_where_its_gradient_vanishes() -> None:
    """``B = α (2β W Σ Wᵀ + 2γ)⁻¹ W Σ`` with the covariance ``Σ`` of the inputs."""
    x, (alpha, beta, gamma) = normal(64, 5), (0.5, 0.25, 0.25)
    options = {"alpha": alpha, "beta": beta, "gamma": gamma}
    model = transformed("ia", network(nn.Linear(5, 4)), x, **options)
    train(model, feedback_only(model, lr=0.2), x, 600)
    w, sigma = model[0].weight.detach(), x.T @ x / len(x)
    wanted = alpha * torch.linalg.solve(
        2 * beta * w @ sigma @ w.T + 2 * gamma * torch.eye(4), w @ sigma
    )
    torch.testing.assert_close(model[0].fxbio_feedback_0.detach(), wanted, rtol=1e-3, atol=1e-4)


def own_activity_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers ``own-activity``: B learns by ``Σ B x ∘ W x``, at all positions by default."""
    monkeypatch.setattr(learning_rule, "_RULES", dict(learning_rule._RULES))

    @rule("own-activity")
    @dataclass(frozen=True)
    class OwnActivity(LearnedFeedback):
        def activity_loss(self, x: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
            return ((x @ feedback.mT) * (x @ weight.mT)).sum()


def test_a_loss_on_activity_of_ones_own_looks_at_all_positions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``∂/∂B Σ B x ∘ W x = W Σ x xᵀ``, of vectors and of the patches of a convolution."""
    own_activity_rule(monkeypatch)
    x = normal(6, 9, 5)
    model = transformed("own-activity", nn.Sequential(nn.Linear(5, 4)), x)
    model(x).sum().backward()
    seen = x.reshape(-1, 5)
    wanted = model[0].weight.detach() @ seen.T @ seen
    torch.testing.assert_close(model[0].fxbio_feedback_0.grad, wanted, rtol=1e-4, atol=1e-4)

    x = normal(3, 2, 5, 5)
    model = transformed("own-activity", nn.Sequential(nn.Conv2d(2, 4, 3)), x)
    model(x).sum().backward()
    seen = nn.functional.unfold(x, 3).transpose(1, 2).reshape(-1, 18)
    wanted = (model[0].weight.detach().flatten(1) @ seen.T @ seen).view(4, 2, 3, 3)
    torch.testing.assert_close(model[0].fxbio_feedback_0.grad, wanted, rtol=1e-4, atol=1e-3)


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


@pytest.mark.parametrize(
    ("layer", "x", "op"),
    [
        (Product(), normal(3, 5), "matmul"),
        (nn.ConvTranspose2d(2, 3, 2), normal(2, 2, 4, 4), "conv_transpose2d"),
    ],
    ids=["matmul", "conv_transpose"],
)
def test_where_no_loss_can_look_at_inputs_such_a_rule_is_refused(
    monkeypatch: pytest.MonkeyPatch, layer: nn.Module, x: Tensor, op: str
) -> None:
    """Its feedback would never learn, and nothing would say so."""
    own_activity_rule(monkeypatch)
    with pytest.raises(FxbioError, match=rf"activity_loss\(\) sees the inputs .* not of {op}"):
        transformed("own-activity", layer, x)


MIRRORED = {
    "linear": WeightInfo("w", "linear", (3, 5)),
    "conv": WeightInfo("w", "conv2d", (4, 2, 2, 2), groups=2),
    "conv_transpose": WeightInfo("w", "conv_transpose2d", (4, 3, 2, 2), groups=2),
    "matmul": WeightInfo("w", "matmul", (5, 3), summed=(-2,), produced=(-1,)),
    "heads": WeightInfo("w", "matmul", (2, 5, 3), summed=(1,), produced=(0, 2)),
    "norm": WeightInfo("w", "norm", (6,)),
}


@pytest.mark.parametrize("name", MIRRORED)
def test_mirrors_reflect_the_weight_on_average(name: str) -> None:
    """``E[ΔB] = β σ² W`` within four standard errors, for every operation."""
    info, draws = MIRRORED[name], 400
    made = make_rule("wm", {"alpha": 0.0, "beta": 0.5, "sigma": 2.0, "samples": 4})
    weight = normal(*info.shape)
    found = []
    for turn in range(draws):
        generator = torch.Generator().manual_seed(turn)
        gradient = made.local_gradient(weight, torch.zeros(info.shape), info, generator)
        assert gradient is not None
        found.append(-gradient)
    updates = torch.stack(found)
    error = updates.std(0) / math.sqrt(draws)
    assert torch.all((updates.mean(0) - 0.5 * 4.0 * weight).abs() < 4 * error)


def test_mirrors_of_one_sample_are_the_published_product() -> None:
    """``y ξᵀ`` with the response ``y = W ξ``."""
    made = make_rule("wm", {"alpha": 0.0, "beta": 1.0, "samples": 1})
    weight, info = normal(3, 5), MIRRORED["linear"]
    noise = torch.randn((1, 1, 5), generator=torch.Generator().manual_seed(7)).flatten()
    gradient = made.local_gradient(
        weight, torch.zeros(3, 5), info, torch.Generator().manual_seed(7)
    )
    torch.testing.assert_close(gradient, -torch.outer(weight @ noise, noise))


def norms(steps: int, **options: Any) -> list[float]:
    """Of the feedback of one mirror, over updates."""
    x = normal(2, 30)
    model = transformed("wm", network(nn.Linear(30, 20)), x, **options)
    optimizer, found = feedback_only(model, lr=1.0), []
    for _ in range(steps):
        train(model, optimizer, x, 1)
        feedback, weight = model[0].fxbio_feedback_0.detach(), model[0].weight.detach()
        found.append(float(feedback.norm() / weight.norm()))
    return found


def test_growth_is_controlled() -> None:
    free = norms(60, alpha=0.0, beta=0.2)
    decaying = norms(60, alpha=0.1, beta=0.2)
    scaled = norms(60, beta=0.2, growth="norm")
    assert free[-1] > 10
    assert decaying[-1] == pytest.approx(decaying[-20], rel=0.15)
    assert decaying[-1] < 2
    assert all(norm == pytest.approx(1.0, abs=1e-4) for norm in scaled)


@pytest.mark.parametrize("growth", ["decay", "norm"])
def test_mirrors_align(growth: str) -> None:
    x = normal(2, 30)
    model = transformed("wm", network(nn.Linear(30, 20)), x, alpha=0.02, beta=0.04, growth=growth)
    train(model, feedback_only(model, lr=1.0), x, 150)
    assert angle(model[0].fxbio_feedback_0.detach(), model[0].weight.detach()) < 12


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        ("sa", {"alpha": -1.0}, "alpha must be a number ≥ 0"),
        ("aa", {"share": 0.0}, "share must be a share above 0"),
        ("ia", {"gamma": math.inf}, "gamma must be a number"),
        ("wm", {"samples": 0}, "samples must be a whole number"),
        ("wm", {"growth": "none"}, "unknown growth 'none'"),
        ("wm", {"phase": "mirrored"}, "did you mean 'mirror'"),
        ("pfa", {"ratio": 1.5}, "ratio must be a whole number"),
        ("pfa", {"density": 2}, "density must be a share"),
        ("fbp", {"refresh_every": 0}, "refresh_every must be a whole number"),
        ("fbp", {"fraction": 0}, "fraction must be a share"),
        ("fbp", {"select": "larger"}, "did you mean 'largest'"),
    ],
)
def test_options_out_of_range_are_refused(rule: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError, match=message):
        make_rule(rule, options)


@pytest.mark.parametrize("rule", ["aa", "ia"])
def test_what_a_rule_cannot_serve_is_said(rule: str) -> None:
    reason = make_rule(rule).unsupported(MIRRORED["matmul"])
    assert reason == f"rule '{rule}' serves linear, conv1d, conv2d, conv3d, not matmul"


@pytest.mark.parametrize("rule", ["pfa", "pfa-o", "wm"])
def test_a_reshaped_parameter_has_no_matrices(rule: str) -> None:
    info = WeightInfo("w", "linear", (3, 5), stored=(15,))
    assert make_rule(rule).unsupported(info) == "'w' is reshaped from 1 to 2 dimensions"
