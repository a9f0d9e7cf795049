"""Transforms that coarsen or bound the entries of the error: ``sign``, ``clip`` and others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fxbio.errors import RuleError
from fxbio.transforms.base import ErrorTransform, SiteValues, error_transform

__all__ = ["Clip", "Quantise", "Sign", "Ternary"]


@error_transform("sign")
@dataclass(frozen=True)
class Sign(ErrorTransform):
    """Keeps the signs, at the mean size of the sample: ``mean|δ| · sign(δ)``."""

    def apply(self, error: Tensor, site: SiteValues) -> Tensor:
        rows = site.rows(error)
        return (rows.abs().mean(1, keepdim=True) * rows.sign()).reshape(error.shape)


@error_transform("ternary")
@dataclass(frozen=True)
class Ternary(ErrorTransform):
    """Signs of the entries above a threshold, at their mean size, and zeros for the others."""

    threshold: float = 0.7
    """In units of the mean of |δ| over the sample; at least 0."""

    paper: ClassVar[str] = "Li & Liu 2016 (the threshold)"

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise RuleError(
                f"threshold must be a number ≥ 0, not {self.threshold!r}", option="threshold"
            )

    def apply(self, error: Tensor, site: SiteValues) -> Tensor:
        rows = site.rows(error)
        size = rows.abs()
        large = (size > self.threshold * size.mean(1, keepdim=True)).to(rows.dtype)
        mean = (size * large).sum(1, keepdim=True) / large.sum(1, keepdim=True).clamp(min=1)
        return (mean * large * rows.sign()).reshape(error.shape)


@error_transform("quantise")
@dataclass(frozen=True)
class Quantise(ErrorTransform):
    """Rounds to the nearest of ``2^bits − 1`` equally spaced levels between ``−max|δ|`` and it."""

    bits: int = 8
    """2 to 24; with 2 bits the levels are −max, 0 and max."""
    per: Literal["tensor", "row"] = "tensor"
    """What shares a grid: the whole error, or each sample."""

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 24:
            raise RuleError(
                f"bits must be a whole number from 2 to 24, not {self.bits!r}", option="bits"
            )

    def apply(self, error: Tensor, site: SiteValues) -> Tensor:
        rows = site.rows(error).float() if error.element_size() < 4 else site.rows(error)
        largest = rows.abs().amax(1, keepdim=True) if self.per == "row" else rows.abs().amax()
        levels = 2 ** (self.bits - 1) - 1
        step = (largest / levels).clamp(min=1e-38)
        rounded: Tensor = (rows / step).round() * step
        return rounded.to(error.dtype).reshape(error.shape)


@error_transform("clip")
@dataclass(frozen=True)
class Clip(ErrorTransform):
    """Bounds each entry: ``min(max(δ, −bound), bound)``."""

    bound: float
    """Above 0, in the units of the error."""

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise RuleError(f"bound must be above 0, not {self.bound!r}", option="bound")

    def apply(self, error: Tensor, site: SiteValues) -> Tensor:
        return error.clamp(-self.bound, self.bound)
