"""Losses of an inverse g of a block f: sums over units, means over the batch.

Only g learns: f is evaluated without gradients, and the noise ε is normal with deviation σ.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fxbio.rules.target_propagation import InverseLoss

__all__ = [
    "LOSSES",
    "Loss",
    "de_noising",
    "difference_reconstruction",
    "local_difference",
    "noise_preserving",
    "reconstruction",
]

Map = Callable[[Tensor], Tensor]

Loss = Callable[[Map, Map, Tensor, Tensor, float], Tensor]
"""``loss(f, g, x, h, σ)`` with x: (N, …) and h = f(x): (N, …), both without gradients; a scalar."""


def reconstruction(f: Map, g: Map, x: Tensor, h: Tensor, sigma: float) -> Tensor:
    """``‖g(f(x)) − x‖²`` (Bengio 2014). There is no noise."""
    return _squared(g(h), x)


def noise_preserving(f: Map, g: Map, x: Tensor, h: Tensor, sigma: float) -> Tensor:
    """``‖g(f(x + ε)) − (x + ε)‖²`` (Lee et al. 2015, eq. 13)."""
    noisy, output = _perturbed(f, x, sigma)
    return _squared(g(output), noisy)


def de_noising(f: Map, g: Map, x: Tensor, h: Tensor, sigma: float) -> Tensor:
    """``‖g(f(x + ε)) − x‖²`` (Bartunov et al. 2018)."""
    _, output = _perturbed(f, x, sigma)
    return _squared(g(output), x)


def difference_reconstruction(f: Map, g: Map, x: Tensor, h: Tensor, sigma: float) -> Tensor:
    """``‖x + g(f(x + ε)) − g(h) − (x + ε)‖²/σ²`` (Meulemans et al. 2020, eq. 16).

    In the paper f goes on to the output of the network, and from there back to the output of the
    block by differences. The authors' code takes the mean over units; this is the sum.
    """
    noisy, output = _perturbed(f, x, sigma)
    return _squared(x + g(output) - g(h), noisy) / sigma**2


def local_difference(f: Map, g: Map, x: Tensor, h: Tensor, sigma: float) -> Tensor:
    """``−2 Σ ε·[g(f(x + ε)) − g(h)] + Σ [g(h + η) − g(h)]²`` (Ernoult et al. 2022).

    For small noise it is ``σ² (‖J_g‖² − 2 tr J_g J_f)``, which is least at ``J_g = J_fᵀ``.
    """
    noisy, output = _perturbed(f, x, sigma)
    here = g(h)
    aligned = _wide((noisy - x) * (g(output) - here)).flatten(1).sum(1).mean()
    return _squared(g(_noisy(h, sigma)), here) - 2 * aligned


LOSSES: dict[InverseLoss, Loss] = {
    "reconstruction": reconstruction,
    "noise-preserving": noise_preserving,
    "de-noising": de_noising,
    "difference": difference_reconstruction,
    "local-difference": local_difference,
}
"""By the name that a rule gives."""


def _perturbed(f: Map, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """``x + ε`` and ``f(x + ε)``."""
    noisy = _noisy(x, sigma)
    with torch.no_grad():
        return noisy, f(noisy)


def _noisy(value: Tensor, sigma: float) -> Tensor:
    return value + sigma * torch.randn_like(value)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    return _wide(a - b).square().flatten(1).sum(1).mean()


def _wide(value: Tensor) -> Tensor:
    """In a precision that a sum over units needs."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
