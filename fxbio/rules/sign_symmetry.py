"""The sign-symmetry family: feedback weights that share the signs of the forward weights.

Liao, Leibo & Poggio 2016 (arXiv 1510.05067), Xiao et al. 2018 (arXiv 1811.03567), Moskovitz et
al. 2018 (arXiv 1812.06488). ``sign(0) = 0`` throughout: a weight that is exactly zero sends no
feedback.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fxbio.rules.feedback_rule import FeedbackRule
from fxbio.rules.learning_rule import Transport, rule
from fxbio.rules.magnitude import (
    Distribution,
    Magnitude,
    check_distribution,
    check_magnitude,
    entry,
    random_like,
)
from fxbio.rules.option_checks import check_whole
from fxbio.rules.weight_info import WeightInfo

__all__ = ["BatchwiseSign", "FixedMagnitudeSign", "SignedInit", "UniformSign"]


@rule("usf", aliases=("sign-symmetry", "ss"))
@dataclass(frozen=True)
class UniformSign(FeedbackRule):
    """``B = s · sign(W)``, from the current weight; nothing is stored."""

    paper: ClassVar[str] = "Xiao et al. 2018, arXiv 1811.03567; uSF of arXiv 1812.06488"
    transports: ClassVar[Transport] = "signs"

    magnitude: Magnitude = "xiao"
    """The size ``s``: xiao, biotorch-xavier, biotorch-kaiming, matched, or a number."""

    def __post_init__(self) -> None:
        check_magnitude(self.magnitude)

    def scale(self, weight: Tensor, info: WeightInfo) -> float:
        """``s`` by the convention."""
        return entry(self.magnitude, weight, info)

    def reads_weight(self) -> bool:
        return self.magnitude == "matched"

    def feedback(self, weight: Tensor, drawn: Tensor | None) -> Tensor:
        """``sign(W)``."""
        return torch.sign(weight)


@rule("frsf")
@dataclass(frozen=True)
class FixedMagnitudeSign(FeedbackRule):
    """``B = |M| ∘ sign(W)`` with magnitudes ``M`` drawn once."""

    paper: ClassVar[str] = "frSF of Moskovitz et al. 2018, arXiv 1812.06488"
    transports: ClassVar[Transport] = "signs"

    magnitude: Magnitude = "xiao"
    """Size of ``M``: xiao, biotorch-xavier, biotorch-kaiming, matched, or a number."""
    distribution: Distribution = "auto"
    """normal, uniform, or auto: what the code behind the convention draws from."""

    def __post_init__(self) -> None:
        check_magnitude(self.magnitude)
        check_distribution(self.distribution)

    def draw(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """``|M|``."""
        return random_like(weight, info, self.magnitude, self.distribution, generator).abs_()

    def reads_weight(self) -> bool:
        return self.magnitude == "matched"

    def feedback(self, weight: Tensor, drawn: Tensor | None) -> Tensor:
        """``|M| ∘ sign(W)``."""
        assert drawn is not None
        return drawn * torch.sign(weight)


@rule("brsf")
@dataclass(frozen=True)
class BatchwiseSign(FixedMagnitudeSign):
    """``B = |M| ∘ sign(W)`` with ``M`` drawn afresh after weight updates.

    The draw advances with the optimizer's steps, not with forward calls: accumulation and
    recomputed activations see one ``M`` per update, and every rank sees the same.
    """

    paper: ClassVar[str] = "brSF of Moskovitz et al. 2018, arXiv 1812.06488"

    redraw_every: int = 1
    """Number of optimizer steps between two draws."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("redraw_every", self.redraw_every)

    def redraw_period(self) -> int:
        return self.redraw_every


@rule("signed-init")
@dataclass(frozen=True)
class SignedInit(FeedbackRule):
    """``B = s · sign(W₀)``: the signs of the weights when the model was transformed, frozen."""

    paper: ClassVar[str] = "Xiao et al. 2018, arXiv 1811.03567"
    transports: ClassVar[Transport] = "copies"

    magnitude: Magnitude = "xiao"
    """The size ``s``: xiao, biotorch-xavier, biotorch-kaiming, matched, or a number."""

    def __post_init__(self) -> None:
        check_magnitude(self.magnitude)

    def scale(self, weight: Tensor, info: WeightInfo) -> float:
        """``s`` by the convention."""
        return entry(self.magnitude, weight, info)

    def draw(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """``sign(W₀)``."""
        return torch.sign(weight)

    def reads_weight(self) -> bool:
        return True
