"""The sizes of feedback weights against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fxbio.errors import RuleError
from fxbio.rules import WeightInfo, make_rule
from fxbio.rules.magnitude import check_distribution, check_magnitude, entry, random_like
from fxbio.site import OpKind

# (op, shape of the weight, groups, fan-in, fan-out): what one output sums over, what one input
# reaches.
FANS: list[tuple[OpKind, tuple[int, ...], int, int, int]] = [
    ("linear", (6, 8), 1, 8, 6),
    ("matmul", (8, 6), 1, 8, 6),
    ("conv1d", (6, 8, 3), 1, 8 * 3, 6 * 3),
    ("conv2d", (16, 8, 3, 5), 1, 8 * 15, 16 * 15),
    ("conv2d", (16, 4, 3, 3), 2, 4 * 9, 8 * 9),  # grouped: 8 channels into 16
    ("conv2d", (8, 1, 3, 3), 8, 9, 9),  # depthwise
    ("conv2d", (16, 1, 3, 3), 8, 9, 2 * 9),  # depthwise with two filters for each channel
    ("conv3d", (4, 2, 3, 3, 3), 1, 2 * 27, 4 * 27),
    ("conv_transpose2d", (8, 4, 3, 3), 1, 8 * 9, 4 * 9),
    ("conv_transpose2d", (8, 4, 3, 3), 2, 4 * 9, 4 * 9),  # 8 channels into 2 groups of 4
    ("conv_transpose1d", (8, 1, 3), 8, 3, 3),  # depthwise
    ("conv_transpose3d", (8, 4, 1, 2, 3), 1, 8 * 6, 4 * 6),
    ("norm", (7,), 1, 1, 1),
]


def info_of(op: OpKind, shape: tuple[int, ...], groups: int = 1) -> WeightInfo:
    return WeightInfo("layer.weight", op, shape, groups)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weight_of(shape: tuple[int, ...], deviation: float = 0.3) -> Tensor:
    return torch.randn(shape, generator=seeded(99)) * deviation


@pytest.mark.parametrize(("op", "shape", "groups", "fan_in", "fan_out"), FANS)
def test_fans(op: OpKind, shape: tuple[int, ...], groups: int, fan_in: int, fan_out: int) -> None:
    info = info_of(op, shape, groups)
    assert (info.fan_in, info.fan_out) == (fan_in, fan_out)


@pytest.mark.parametrize(
    ("layer", "op", "channels"),
    [
        (nn.Linear(8, 6), "linear", 8),
        (nn.Conv2d(8, 16, 3, groups=2), "conv2d", 8),
        (nn.Conv1d(8, 8, 3, groups=8), "conv1d", 8),
        (nn.ConvTranspose2d(8, 16, 3, groups=2), "conv_transpose2d", 8),
    ],
    ids=["linear", "grouped", "depthwise", "transposed"],
)
def test_fans_are_the_numbers_of_connections(layer: nn.Module, op: OpKind, channels: int) -> None:
    """Counted by sending ones through a layer of ones."""
    weight, bias = layer.parameters()
    with torch.no_grad():
        weight.fill_(1.0)
        bias.fill_(0.0)
    x = torch.ones(1, channels, *[9] * (weight.dim() - 2), requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    info = info_of(op, tuple(weight.shape), int(getattr(layer, "groups", 1)))
    assert (y.max().item(), x.grad.max().item()) == (info.fan_in, info.fan_out)


@pytest.mark.parametrize(
    ("magnitude", "op", "shape", "groups", "expected"),
    [
        ("xiao", "linear", (6, 8), 1, 0.35355339),  # 1/√8
        ("xiao", "matmul", (8, 6), 1, 0.35355339),
        ("xiao", "conv2d", (16, 8, 3, 3), 1, 0.11785113),  # √(2/144)
        ("xiao", "conv2d", (16, 4, 3, 3), 2, 0.16666667),  # √(2/72)
        ("xiao", "conv2d", (8, 1, 3, 3), 8, 0.47140452),  # √(2/9)
        ("xiao", "conv_transpose2d", (8, 4, 3, 3), 2, 0.23570226),  # √(2/36)
        ("biotorch-xavier", "linear", (6, 8), 1, 0.37796447),  # √(2/14)
        ("biotorch-xavier", "conv2d", (16, 8, 3, 3), 1, 0.09622504),  # √(2/216)
        ("biotorch-xavier", "conv2d", (8, 1, 3, 3), 8, 0.33333333),  # √(2/18)
        ("biotorch-xavier", "conv_transpose2d", (8, 4, 3, 3), 1, 0.13608276),  # √(2/108)
        ("biotorch-kaiming", "linear", (6, 8), 1, 0.20412415),  # 1/√24
        ("biotorch-kaiming", "conv2d", (8, 1, 3, 3), 8, 0.19245009),  # 1/√27
        ("biotorch-kaiming", "conv_transpose2d", (8, 4, 3, 3), 2, 0.09622504),  # 1/√108
        ("xiao", "norm", (7,), 1, 1.0),
        ("biotorch-xavier", "norm", (7,), 1, 1.0),
        ("biotorch-kaiming", "norm", (7,), 1, 1.0),
        (0.05, "conv2d", (16, 8, 3, 3), 1, 0.05),
        (2, "norm", (7,), 1, 2.0),
    ],
)
def test_sign_feedback_has_the_entry_of_the_convention(
    magnitude: str | float, op: OpKind, shape: tuple[int, ...], groups: int, expected: float
) -> None:
    weight, info = weight_of(shape), info_of(op, shape, groups)
    for name in ("usf", "signed-init"):
        rule = make_rule(name, {"magnitude": magnitude})
        assert rule.scale(weight, info) == pytest.approx(expected, rel=1e-6)


def test_matched_sign_feedback_has_the_norm_of_the_weight() -> None:
    weight = torch.tensor([[3.0, 0.0], [0.0, -4.0]])  # ‖W‖ = 5, ‖sign W‖ = √2
    info = info_of("linear", (2, 2))
    assert entry("matched", weight, info) == pytest.approx(5 / math.sqrt(2))
    assert entry("matched", torch.zeros(2, 2), info) == 0.0
    assert entry("matched", torch.tensor([0.5, -0.5]), info_of("norm", (2,))) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("magnitude", "op", "shape", "deviation", "uniform"),
    [
        ("xiao", "linear", (300, 200), 1 / math.sqrt(600), True),
        ("xiao", "conv2d", (80, 90, 3, 3), math.sqrt(2 / 720), False),
        ("xiao", "norm", (60000,), 1.0, False),
        ("biotorch-xavier", "linear", (300, 200), math.sqrt(2 / 500), True),
        ("biotorch-xavier", "conv2d", (80, 90, 3, 3), math.sqrt(2 / 1530), True),
        ("biotorch-kaiming", "conv2d", (80, 90, 3, 3), 1 / math.sqrt(2430), True),
        (0.2, "linear", (300, 200), 0.2, False),
    ],
)
@pytest.mark.parametrize("name", ["fa", "frsf", "brsf"])
def test_draws_have_the_deviation_and_the_distribution_of_the_convention(
    name: str,
    magnitude: str | float,
    op: OpKind,
    shape: tuple[int, ...],
    deviation: float,
    uniform: bool,
) -> None:
    rule = make_rule(name, {"magnitude": magnitude})
    drawn = rule.draw(weight_of(shape), info_of(op, shape), seeded())
    assert drawn is not None
    assert drawn.square().mean().sqrt().item() == pytest.approx(deviation, rel=0.02)
    # A uniform number stays within √3 deviations; a normal one leaves them 8.3 % of the time.
    outside = (drawn.abs() > math.sqrt(3.0001) * deviation).float().mean().item()
    assert outside == 0.0 if uniform else outside == pytest.approx(0.0833, abs=0.006)
    if name == "fa":
        assert abs(drawn.mean().item()) < 0.02 * deviation
    else:
        assert drawn.min().item() >= 0.0


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_distribution_may_be_chosen_without_changing_the_deviation(distribution: str) -> None:
    options = {"magnitude": "xiao", "distribution": distribution}
    shape = (300, 200)
    drawn = make_rule("fa", options).draw(weight_of(shape), info_of("linear", shape), seeded())
    assert drawn is not None
    assert drawn.std().item() == pytest.approx(1 / math.sqrt(600), rel=0.02)
    assert (drawn.abs().max().item() * math.sqrt(200) > 1.0001) == (distribution == "normal")


@pytest.mark.parametrize("name", ["fa", "frsf"])
def test_matched_draws_have_the_norm_of_the_weight(name: str) -> None:
    weight = weight_of((30, 20))
    drawn = make_rule(name, {"magnitude": "matched"}).draw(
        weight, info_of("linear", (30, 20)), seeded()
    )
    assert drawn is not None
    assert drawn.norm().item() == pytest.approx(weight.norm().item(), rel=1e-5)


def test_draws_depend_on_the_seed_alone_and_take_the_dtype_of_the_weight() -> None:
    shape = (30, 20)
    info = info_of("linear", shape)

    def draw(weight: Tensor, seed: int) -> Tensor:
        return random_like(weight, info, "xiao", "auto", seeded(seed))

    first = draw(weight_of(shape), 1)
    assert torch.equal(first, draw(torch.zeros(shape), 1))
    assert not torch.equal(first, draw(weight_of(shape), 2))
    assert torch.equal(draw(weight_of(shape).bfloat16(), 1), first.bfloat16())
    assert draw(weight_of(shape).double(), 1).dtype == torch.float64


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("xaio", "did you mean 'xiao'"),
        ("biotorch", "allowed: xiao"),
        (0, "must be positive"),
        (-0.5, "must be positive"),
        (math.inf, "must be positive"),
        (math.nan, "must be positive"),
        (True, "unknown magnitude 'True'"),
        (None, "unknown magnitude 'None'"),
    ],
)
@pytest.mark.parametrize("name", ["fa", "usf", "frsf", "brsf", "signed-init"])
def test_bad_magnitudes_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        check_magnitude(value)
    with pytest.raises(RuleError, match=message):
        make_rule(name, {"magnitude": value})


@pytest.mark.parametrize("name", ["fa", "frsf", "brsf"])
def test_bad_distributions_are_refused(name: str) -> None:
    with pytest.raises(RuleError, match="did you mean 'uniform'"):
        check_distribution("unifrom")
    with pytest.raises(RuleError, match="unknown distribution 'cauchy'"):
        make_rule(name, {"distribution": "cauchy"})
