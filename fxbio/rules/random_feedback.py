"""What rules with a random feedback weight of the size of ``W`` have in common."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fxbio.rules.base import Rule
from fxbio.rules.magnitude import (
    Distribution,
    Magnitude,
    check_distribution,
    check_magnitude,
    random_like,
)
from fxbio.rules.weight_info import WeightInfo

__all__ = ["RandomFeedback"]


@dataclass(frozen=True)
class RandomFeedback(Rule):
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
