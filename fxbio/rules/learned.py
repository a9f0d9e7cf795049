"""What the rules with a learned feedback weight have in common: how it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fxbio.rules.base import Rule
from fxbio.rules.fan import WeightInfo
from fxbio.rules.magnitude import (
    Distribution,
    Magnitude,
    check_distribution,
    check_magnitude,
    random_like,
)

__all__ = ["LearnedFeedback"]


@dataclass(frozen=True)
class LearnedFeedback(Rule):
    """``B`` begins as under feedback alignment and learns from there."""

    learns: ClassVar[bool] = True

    magnitude: Magnitude = "xiao"
    """Size of the entries at the start: xiao, biotorch-xavier, biotorch-kaiming, matched, or a
    number."""
    distribution: Distribution = "auto"
    """normal, uniform, or auto: what the code behind the convention draws from."""

    def __post_init__(self) -> None:
        check_magnitude(self.magnitude)
        check_distribution(self.distribution)

    def learned(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """``B`` at the start: zero mean, with the deviation of the convention."""
        return random_like(weight, info, self.magnitude, self.distribution, generator)

    def reads_weight(self) -> bool:
        return self.magnitude == "matched"

    def feedback(self, weight: Tensor, drawn: Tensor | None) -> Tensor:
        """``B`` as learned."""
        assert drawn is not None
        return drawn
