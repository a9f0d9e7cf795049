"""Symmetric alignment of Kunin et al. 2020, "Two Routes to Scalable Credit Assignment"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fxbio.rules.base import Transport, rule
from fxbio.rules.learned import LearnedFeedback
from fxbio.rules.option_checks import check_coefficients
from fxbio.rules.weight_info import WeightInfo

__all__ = ["SymmetricAlignment"]


@rule("sa", aliases=("symmetric-alignment",))
@dataclass(frozen=True)
class SymmetricAlignment(LearnedFeedback):
    """``B`` minimises ``α ‖B‖² − β Σ W ∘ B``, the primitives decay and self.

    It tends to ``(β/2α) W``: a running average of past weights, which it reads one by one.
    """

    paper: ClassVar[str] = "Kunin et al. 2020, arXiv 2003.01513"
    transports: ClassVar[Transport] = "copies"

    alpha: float = 1e-3
    """Coefficient of the decay."""
    beta: float = 2e-3
    """Coefficient of the pull towards the forward weight."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_coefficients(alpha=self.alpha, beta=self.beta)

    def reads_weight(self) -> bool:
        return True

    def local_gradient(
        self, weight: Tensor, learned: Tensor, info: WeightInfo, generator: torch.Generator
    ) -> Tensor:
        """``2α B − β W``."""
        return 2 * self.alpha * learned - self.beta * weight
