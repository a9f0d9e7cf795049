"""What the rules with a learned feedback weight have in common: how it begins."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fxbio.rules.random_feedback import RandomFeedback
from fxbio.rules.weight_info import WeightInfo

__all__ = ["LearnedFeedback"]


@dataclass(frozen=True)
class LearnedFeedback(RandomFeedback):
    """``B`` begins as under feedback alignment and learns from there."""

    def learned(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """``B`` at the start."""
        return self.random(weight, info, generator)
