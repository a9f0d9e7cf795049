"""What local losses look at, and the gradients that the ops take from them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fxbio import ops
from fxbio.ops.activity import patches, tokens
from tests.ops.oracle import normal

GEOMETRIES = [
    {"stride": 1, "dilation": 1},
    {"stride": 2, "dilation": 1},
    {"stride": 1, "dilation": 2},
    {"stride": 3, "dilation": 2},
]


def unfolded(x: Tensor, kernel: tuple[int, int], stride: int, dilation: int) -> Tensor:
    """(N, positions, C · taps), by torch."""
    return F.unfold(x, kernel, dilation=dilation, stride=stride).transpose(1, 2)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("groups", [1, 2])
def test_all_patches_are_those_that_torch_unfolds(geometry: dict[str, int], groups: int) -> None:
    x, (s, d) = normal((3, 4, 9, 8)), geometry.values()
    found = patches(x, (3, 2), (s, s), (1, 1), (d, d), groups, 1.0)
    wanted = unfolded(x, (3, 2), s, d).reshape(-1, groups, 4 // groups * 6).transpose(0, 1)
    assert torch.equal(found, wanted)


def test_a_share_of_the_patches_is_spread_evenly() -> None:
    x = torch.arange(144.0).reshape(1, 1, 12, 12)
    found = patches(x, (1, 1), (1, 1), (0, 0), (1, 1), 1, 0.06).flatten()
    places = (1, 5, 9)
    assert found.tolist() == [12 * row + column for row in places for column in places]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 30])
def test_every_sample_is_looked_at(size: int) -> None:
    x = normal((5, 2, size, size))
    found = patches(x, (3, 3), (1, 1), (1, 1), (1, 1), 1, 0.001)
    assert found.shape[0] == 1
    assert found.shape[1] % 5 == 0
    assert found.shape[1] >= 5


def test_a_kernel_larger_than_the_input_sees_padding() -> None:
    x = normal((2, 3, 1, 1))
    found = patches(x, (3, 3), (1, 1), (1, 1), (1, 1), 1, 1.0)
    assert torch.equal(found, unfolded(F.pad(x, (1, 1, 1, 1)), (3, 3), 1, 1).reshape(1, 2, 27))


@pytest.mark.parametrize("spatial", [1, 3])
def test_patches_in_one_and_three_dimensions_reproduce_the_convolution(spatial: int) -> None:
    x, weight = normal((2, 4, *[5] * spatial)), normal((6, 2, *[2] * spatial), seed=1)
    ones, zeros = [1] * spatial, [0] * spatial
    found = patches(x, weight.shape[2:], ones, zeros, ones, 2, 1.0)
    rows = torch.cat([*(found @ weight.reshape(2, 3, -1).mT)], -1)
    convolved = (F.conv1d if spatial == 1 else F.conv3d)(x, weight, groups=2)
    torch.testing.assert_close(rows, convolved.flatten(2).transpose(1, 2).reshape(-1, 6))


@pytest.mark.parametrize(
    ("shape", "positions"),
    [((7,), 1), ((5, 7), 5), ((3, 10, 7), 3 * 3), ((2, 3, 4, 7), 2 * 3 * 1)],
)
def test_a_share_of_the_tokens_keeps_every_sample(shape: tuple[int, ...], positions: int) -> None:
    assert tokens(normal(shape), 0.25).shape == (1, positions, 7)
    assert torch.equal(tokens(normal(shape), 1.0), normal(shape).reshape(1, -1, 7))


def gradient(rule: str, scale_of_error: float, needs_weight: bool) -> Tensor:
    x, weight = normal((2, 5, 8)), normal((6, 8), seed=1).requires_grad_(needs_weight)
    feedback = normal((6, 8), seed=2).requires_grad_()
    y = ops.linear(x, weight, None, feedback, rule, 1.0)
    (y.sum() * scale_of_error).backward()
    assert feedback.grad is not None
    return feedback.grad


@pytest.mark.parametrize("rule", ["aa{share=1.0}", "ia{share=1.0}"])
@pytest.mark.parametrize("needs_weight", [True, False])
def test_a_loss_on_the_activity_does_not_depend_on_the_error(rule: str, needs_weight: bool) -> None:
    one, other = (gradient(rule, factor, needs_weight) for factor in (1.0, 100.0))
    assert torch.equal(one, other)
    assert one.any()


def test_activation_alignment_is_the_published_gradient() -> None:
    """``E[(2α B x − β W x) xᵀ]``."""
    x, w, b = normal((2, 5, 8)).reshape(-1, 8), normal((6, 8), seed=1), normal((6, 8), seed=2)
    wanted = (2 * 0.25 * x @ b.T - 0.5 * x @ w.T).T @ x / len(x)
    torch.testing.assert_close(gradient("aa{share=1.0,alpha=0.25,beta=0.5}", 1.0, True), wanted)


def test_information_alignment_is_the_published_gradient() -> None:
    """``E[− α W x xᵀ + 2β W x (Bᵀ W x)ᵀ] + 2γ B``."""
    x, w, b = normal((2, 5, 8)).reshape(-1, 8), normal((6, 8), seed=1), normal((6, 8), seed=2)
    y = x @ w.T
    wanted = (-0.5 * y.T @ x + 2 * 0.25 * y.T @ (y @ b)) / len(x) + 2 * 0.125 * b
    found = gradient("ia{share=1.0,alpha=0.5,beta=0.25,gamma=0.125}", 1.0, True)
    torch.testing.assert_close(found, wanted)


def test_an_empty_batch_has_no_gradient() -> None:
    feedback = normal((6, 8)).requires_grad_()
    ops.linear(normal((0, 8)), normal((6, 8)), None, feedback, "aa", 1.0).sum().backward()
    assert feedback.grad is not None
    assert not feedback.grad.any()
