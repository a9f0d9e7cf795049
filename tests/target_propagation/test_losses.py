"""What inverses learn from, against the formulas and where their minimum is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fxbio.target_propagation.losses import LOSSES, local_difference

N, IN, OUT, SIGMA = 5, 4, 3, 0.3


@pytest.fixture
def forward() -> nn.Module:
    return nn.Sequential(nn.Linear(IN, OUT), nn.Tanh()).double()


@pytest.fixture
def inverse() -> nn.Module:
    return nn.Sequential(nn.Linear(OUT, IN), nn.Tanh()).double()


def noise(seed: int, *widths: int) -> list[Tensor]:
    torch.manual_seed(seed)
    return [SIGMA * torch.randn(N, width, dtype=torch.float64) for width in widths]


def by_hand(name: str, f: nn.Module, g: nn.Module, x: Tensor) -> Tensor:
    """The losses once more, as published, sample by sample."""
    h = f(x)
    eps, eta = noise(1, IN, OUT)
    total = torch.zeros((), dtype=torch.float64)
    for n in range(N):
        noisy = x[n] + eps[n]
        match name:
            case "reconstruction":
                total = total + (g(h[n]) - x[n]).square().sum()
            case "noise-preserving":
                total = total + (g(f(noisy)) - noisy).square().sum()
            case "de-noising":
                total = total + (g(f(noisy)) - x[n]).square().sum()
            case "difference":
                total = total + (g(f(noisy)) - g(h[n]) - eps[n]).square().sum() / SIGMA**2
            case "local-difference":
                total = total - 2 * eps[n] @ (g(f(noisy)) - g(h[n]))
                total = total + (g(h[n] + eta[n]) - g(h[n])).square().sum()
    return total / N


@pytest.mark.parametrize("name", LOSSES)
def test_sum_over_units_and_mean_over_the_batch(
    name: str, forward: nn.Module, inverse: nn.Module
) -> None:
    x = torch.randn(N, IN, dtype=torch.float64)
    h = forward(x).detach()
    torch.manual_seed(1)
    found = LOSSES[name](forward, inverse, x, h, SIGMA)
    torch.testing.assert_close(found, by_hand(name, forward, inverse, x))


@pytest.mark.parametrize("name", LOSSES)
def test_only_the_inverse_learns(name: str, forward: nn.Module, inverse: nn.Module) -> None:
    x = torch.randn(N, IN, dtype=torch.float64)
    LOSSES[name](forward, inverse, x, forward(x).detach(), SIGMA).backward()
    assert all(p.grad is None for p in forward.parameters())
    assert all(p.grad is not None for p in inverse.parameters())


def test_the_minimum_of_the_local_loss_is_the_transposed_jacobian() -> None:
    """Ernoult et al. 2022: descent on it ends at V = Wᵀ where f and g are linear."""
    f = nn.Linear(IN, OUT, bias=False).double()
    g = nn.Linear(OUT, IN, bias=False).double()
    x = torch.randn(20_000, IN, dtype=torch.float64)
    optimizer = torch.optim.SGD(g.parameters(), lr=2.0)
    for _ in range(60):
        optimizer.zero_grad()
        local_difference(f, g, x, f(x).detach(), SIGMA).backward()
        optimizer.step()
    torch.testing.assert_close(g.weight, f.weight.T, rtol=0, atol=0.02)


def test_half_precision_is_summed_in_full() -> None:
    x = torch.full((1, 70_000), 1.0, dtype=torch.float16)
    loss = LOSSES["reconstruction"](lambda x: x, lambda h: 0 * h, x, x, 0.0)
    assert loss.item() == 70_000
