"""Transforms that keep a part of the entries of the error: ``topk``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fxbio.errors import RuleError
from fxbio.transforms.base import ErrorTransform, SiteValues, error_transform

__all__ = ["TopK"]


@error_transform("topk")
@dataclass(frozen=True)
class TopK(ErrorTransform):
    """Keeps the largest entries of each sample: ``δ_j`` where ``|δ_j|`` is among the k largest."""

    paper: ClassVar[str] = "Sun et al. 2017 (meProp)"

    k: int | None = None
    """Number of entries that are kept; instead of share."""
    share: float | None = None
    """Share of the entries of a sample that is kept, at least one; above 0, up to 1."""
    unified: bool = False
    """Whether all samples of a batch keep the same entries: those with the largest sum of |δ|."""

    def __post_init__(self) -> None:
        if (self.k is None) == (self.share is None):
            raise RuleError("topk takes either k or share", help="write topk{share=0.1}")
        if self.k is not None and not self.k >= 1:
            raise RuleError(f"k must be a whole number ≥ 1, not {self.k!r}", option="k")
        if self.share is not None and not 0 < self.share <= 1:
            raise RuleError(
                f"share must be above 0 and at most 1, not {self.share!r}", option="share"
            )

    def kept(self, entries: int) -> int:
        """Number of entries of a sample that are kept."""
        wanted = self.k if self.k is not None else math.ceil((self.share or 1.0) * entries)
        return min(wanted, entries)

    def apply(self, error: Tensor, site: SiteValues) -> Tensor:
        """(samples, entries), with exact zeros where an entry is dropped."""
        rows = site.rows(error)
        if self.kept(rows.shape[1]) == rows.shape[1]:
            return error
        found = self.entries(rows)
        size = found.new_zeros(found.shape[0], rows.shape[1], dtype=rows.dtype)
        return (rows * size.scatter(1, found, 1.0)).reshape(error.shape)

    def entries(self, rows: Tensor) -> Tensor:
        """Positions of what is kept: (samples, k), or (1, k) where all samples keep the same."""
        size = rows.abs().sum(0, keepdim=True) if self.unified else rows.abs()
        return size.topk(self.kept(rows.shape[1]), dim=1, sorted=False).indices
