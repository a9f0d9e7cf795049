"""The measures of alignment between two tensors, taken as vectors and in double precision."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["angle", "cosine", "norm_ratio", "sign_concordance"]


def cosine(one: Tensor, other: Tensor) -> float | None:
    """``⟨a, b⟩ / ‖a‖‖b‖``, within ±1; ``None`` where one of them is zero or not finite."""
    a, b = one.detach().double().flatten(), other.detach().double().flatten()
    norms = float(a.norm()) * float(b.norm())
    if norms == 0 or not math.isfinite(norms):
        return None
    return max(-1.0, min(1.0, float(torch.dot(a / a.norm(), b / b.norm()))))


def angle(one: Tensor, other: Tensor) -> float | None:
    """``arccos⟨a, b⟩ / ‖a‖‖b‖`` in degrees.

    Between a weight and its feedback it is the weight alignment of Lillicrap et al. 2016: 90° for
    random feedback at the start, 30° for the signs of uniform weights, and ``arccos √(2/π)``, which
    is 37.1°, for those of Gaussian ones.
    """
    value = cosine(one, other)
    return None if value is None else math.degrees(math.acos(value))


def norm_ratio(weight: Tensor, feedback: Tensor) -> float | None:
    """``‖B‖ / ‖W‖``."""
    norm = float(weight.detach().double().norm())
    return float(feedback.detach().double().norm()) / norm if norm else None


def sign_concordance(weight: Tensor, feedback: Tensor) -> tuple[float | None, float]:
    """The share of equal signs among entries where neither is zero, and the share of the others.

    Chance is ½ (Liao et al. 2016). A zero has no sign to agree with, and is not counted as either.
    """
    signs = torch.sign(weight.detach()) * torch.sign(feedback.detach())
    counted = int(torch.count_nonzero(signs))
    zeros = 1 - counted / max(signs.numel(), 1)
    return (int((signs > 0).sum()) / counted if counted else None), zeros
