"""Feedback alignment: the error goes back through fixed random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fxbio.rules.learning_rule import rule
from fxbio.rules.random_feedback import RandomFeedback
from fxbio.rules.weight_info import WeightInfo

__all__ = ["FeedbackAlignment"]


@rule("fa", aliases=("feedback-alignment",))
@dataclass(frozen=True)
class FeedbackAlignment(RandomFeedback):
    """``B`` is drawn once, independently of ``W``, and never changes."""

    paper: ClassVar[str] = "Lillicrap et al. 2016, Nature Communications 7:13276"

    def draw(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """``B``."""
        return self.random(weight, info, generator)
