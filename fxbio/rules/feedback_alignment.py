"""Feedback alignment: the error goes back through fixed random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fxbio.rules.base import Rule, rule
from fxbio.rules.fan import WeightInfo
from fxbio.rules.magnitude import (
    Distribution,
    Magnitude,
    check_distribution,
    check_magnitude,
    random_like,
)

__all__ = ["FeedbackAlignment"]


@rule("fa", aliases=("feedback-alignment",))
@dataclass(frozen=True)
class FeedbackAlignment(Rule):
    """``B`` is drawn once, independently of ``W``, and never changes."""

    paper: ClassVar[str] = "Lillicrap et al. 2016, Nature Communications 7:13276"
    draws: ClassVar[bool] = True

    magnitude: Magnitude = "xiao"
    """Size of the entries: xiao, biotorch-xavier, biotorch-kaiming, matched, or a number."""
    distribution: Distribution = "auto"
    """normal, uniform, or auto: what the code behind the convention draws from."""

    def __post_init__(self) -> None:
        check_magnitude(self.magnitude)
        check_distribution(self.distribution)

    def draw(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """``B``, zero mean, with the deviation of the convention."""
        return random_like(weight, info, self.magnitude, self.distribution, generator)

    def reads_weight(self) -> bool:
        return self.magnitude == "matched"

    def feedback(self, weight: Tensor, drawn: Tensor | None) -> Tensor:
        """``B`` as drawn."""
        assert drawn is not None
        return drawn
