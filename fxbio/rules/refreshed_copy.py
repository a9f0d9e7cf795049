"""Backprop with stale weights: the feedback weight is a copy, refreshed now and then."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from fxbio.rules.feedback_rule import FeedbackRule
from fxbio.rules.learning_rule import Transport, rule
from fxbio.rules.option_checks import check_share, check_whole, check_word
from fxbio.rules.weight_info import WeightInfo

__all__ = ["RefreshedCopy"]

Selection = Literal["random", "largest"]


@rule("fbp")
@dataclass(frozen=True)
class RefreshedCopy(FeedbackRule):
    """``B`` is a copy of ``W``, of which a share is refreshed after every few weight updates.

    Refreshed whole after each update it is backprop, to the last bit.
    """

    paper: ClassVar[str] = "Goupy et al. 2025, arXiv 2505.13741"
    transports: ClassVar[Transport] = "copies"
    remembers: ClassVar[bool] = True

    refresh_every: int = 100
    """Number of optimizer steps between two copies."""
    fraction: float = 1.0
    """Share of the entries that is copied each time."""
    select: Selection = "random"
    """Which ones: random, or those with the largest difference."""

    def __post_init__(self) -> None:
        check_whole("refresh_every", self.refresh_every)
        check_share("fraction", self.fraction)
        check_word("select", self.select, get_args(Selection))

    def reads_weight(self) -> bool:
        return True

    def draw(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """``W``."""
        return weight.clone()

    def redraw_period(self) -> int:
        return self.refresh_every

    def redraw(
        self, weight: Tensor, feedback: Tensor, info: WeightInfo, generator: torch.Generator
    ) -> Tensor:
        """``B`` with the chosen entries of ``W`` in it."""
        if self.fraction == 1.0:
            return weight
        difference = (weight - feedback).flatten()
        amount = math.ceil(self.fraction * weight.numel())
        if self.select == "largest":
            chosen = difference.abs().topk(amount).indices
        else:
            order = torch.randperm(weight.numel(), generator=generator)
            chosen = order[:amount].to(weight.device)
        return feedback.flatten().index_copy(0, chosen, weight.flatten()[chosen]).view_as(feedback)
