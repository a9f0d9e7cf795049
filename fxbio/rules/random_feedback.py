"""Random feedback weights of the size of ``W``, which stay as they are or learn from there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fxbio.rules.feedback_rule import FeedbackRule
from fxbio.rules.magnitude import (
    Distribution,
    Magnitude,
    check_distribution,
    check_magnitude,
    random_like,
)
from fxbio.rules.weight_info import WeightInfo

__all__ = ["LearnedFeedback", "RandomFeedback"]


@dataclass(frozen=True)
class RandomFeedback(FeedbackRule):
    """``B`` begins as a random matrix, sized by a convention."""

    magnitude: Magnitude = "xiao"
    """Size of the entries: xiao, biotorch-xavier, biotorch-kaiming, matched, or a number."""
    distribution: Distribution = "auto"
    """normal, uniform, or auto: what the code behind the convention draws from."""

    def __post_init__(self) -> None:
        check_magnitude(self.magnitude)
        check_distribution(self.distribution)

    def reads_weight(self) -> bool:
        return self.magnitude == "matched"

    def random(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """Zero mean, with the deviation of the convention; arguments as for ``draw``."""
        return random_like(weight, info, self.magnitude, self.distribution, generator)


@dataclass(frozen=True)
class LearnedFeedback(RandomFeedback):
    """``B`` begins as under feedback alignment and learns from there."""

    def learned(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """``B`` at the start."""
        return self.random(weight, info, generator)
