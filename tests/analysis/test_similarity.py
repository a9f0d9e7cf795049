"""CKA and RSA: values by hand, independent formulas, and what they must not depend on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fxbio.analysis import linear_cka, rsa, similarity
from fxbio.errors import ModelError
from tests.analysis.nets import ConvNet, Perceptron, images, rows, under


def rotation(size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size))[0]


def test_cka_by_hand() -> None:
    """Centred, x = (−1, 0, 1) and y = (−1, 2, −1)/…: orthogonal columns add up."""
    x = torch.tensor([[1.0], [2.0], [3.0]])
    assert linear_cka(x, torch.tensor([[1.0], [4.0], [1.0]])) == pytest.approx(0.0)
    # y has the column of x, and one orthogonal to it of the same norm: ‖YᵀX‖² = 4, ‖YᵀY‖ = √8.
    y = torch.tensor([[-1.0, 3**-0.5], [0.0, -2 * 3**-0.5], [1.0, 3**-0.5]])
    assert linear_cka(x, y) == pytest.approx(4 / (2 * 8**0.5))


def test_cka_agrees_with_the_formula_on_features() -> None:
    x, y = torch.randn(20, 3, 5), torch.randn(20, 7)
    a, b = x.flatten(1), y
    a, b = a - a.mean(0), b - b.mean(0)
    expected = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert linear_cka(x, y) == pytest.approx(float(expected), rel=1e-5)


def test_what_cka_does_not_depend_on() -> None:
    x, y = torch.randn(30, 6), torch.randn(30, 8)
    assert linear_cka(x, 5 * x @ rotation(6) + 2) == pytest.approx(1.0)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x))
    assert linear_cka(x @ torch.diag(torch.arange(1.0, 7.0)), x) < 0.999


def test_rsa_by_hand() -> None:
    """Of four samples: Spearman's ρ is 1 − 6 Σ d²/(n (n² − 1)) over the n = 6 pairs."""
    from scipy.spatial.distance import pdist
    from scipy.stats import spearmanr

    x, y = torch.randn(4, 5), torch.randn(4, 9)
    ranks = [pdist(h.double().numpy(), "correlation").argsort().argsort() for h in (x, y)]
    by_hand = 1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (6 * 35)
    assert rsa(x, y) == pytest.approx(by_hand)
    tied = torch.tensor([[1.0, 2, 3], [3, 2, 1], [1, 2, 3], [2, 1, 3]])
    want = spearmanr(pdist(tied.numpy(), "correlation"), pdist(x.numpy(), "correlation")).statistic
    assert rsa(tied, x) == pytest.approx(float(want), abs=1e-6)


def test_what_rsa_does_not_depend_on() -> None:
    x = torch.randn(12, 6)
    assert rsa(x, 3 * x + 1) == pytest.approx(1.0)
    assert rsa(x, x[:, torch.randperm(6)]) == pytest.approx(1.0)
    assert abs(rsa(torch.randn(40, 50), torch.randn(40, 50))) < 0.2


def test_two_models_layer_by_layer() -> None:
    model = ConvNet().train()
    ruled = under(model, images(), "fa")
    found = similarity(model, ruled, images(8))
    assert [row.layer for row in found.rows] == ["one", "norm", "two", "last"]
    assert [row.cka for row in found.rows] == pytest.approx([1.0] * 4)
    assert [row.rsa for row in found.rows] == pytest.approx([1.0] * 4)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    torch.manual_seed(1)
    assert similarity(model, ConvNet(), images(8), ["two"]).rows[0].cka < 0.999
    assert "CKA" in str(found)


def test_models_without_a_common_layer() -> None:
    with pytest.raises(ModelError, match="no layer in common"):
        similarity(Perceptron(), nn.Sequential(nn.Linear(6, 3)), rows())
