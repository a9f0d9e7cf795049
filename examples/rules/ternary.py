"""A rule of one's own: signs of the larger weights only. Use it with ``--plugin ternary.py``."""

from dataclasses import dataclass

from torch import Tensor

import fxbio


@fxbio.rule("ternary")
@dataclass(frozen=True)
class Ternary(fxbio.FeedbackRule):
    """``B = sign(W)/√fan_in`` where ``|W|`` exceeds a share of its mean, else 0."""

    threshold: float = 0.5
    """The share of the mean absolute weight that an entry must exceed."""

    def scale(self, weight: Tensor, info: fxbio.WeightInfo) -> float:
        return info.fan_in**-0.5

    def feedback(self, weight: Tensor, drawn: Tensor | None) -> Tensor:
        return weight.sign() * (weight.abs() > self.threshold * weight.abs().mean())
