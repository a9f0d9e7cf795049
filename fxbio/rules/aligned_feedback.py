"""The alignment rules of Kunin et al. 2020, "Two Routes to Scalable Credit Assignment …".

All train ``B`` by a loss of its own: symmetric alignment on the weights themselves, activation and
information alignment on what the layer sees and sends. With ``x`` its input, ``W x`` is its
response, ``B x`` what the feedback weight makes of the same input, and ``Bᵀ W x`` the echo of the
response. Means are over the batch and over positions, sums over units. A convolution is taken
patch by patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fxbio.rules.feedback_rule import WATCHED_OPS
from fxbio.rules.learning_rule import Transport, rule
from fxbio.rules.option_checks import check_coefficients, check_share
from fxbio.rules.random_feedback import LearnedFeedback
from fxbio.rules.weight_info import WeightInfo
from fxbio.site import OpKind

__all__ = ["ActivationAlignment", "InformationAlignment", "SymmetricAlignment"]

_PAPER = "Kunin et al. 2020, arXiv 2003.01513"


@rule("sa", aliases=("symmetric-alignment",))
@dataclass(frozen=True)
class SymmetricAlignment(LearnedFeedback):
    """``B`` minimises ``α ‖B‖² − β Σ W ∘ B``, the primitives decay and self.

    It tends to ``(β/2α) W``: a running average of past weights, which it reads one by one.
    """

    paper: ClassVar[str] = _PAPER
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


@dataclass(frozen=True)
class _ActivityAlignment(LearnedFeedback):
    """Losses on activity: how much of it they look at."""

    paper: ClassVar[str] = _PAPER
    ops: ClassVar[tuple[OpKind, ...]] = WATCHED_OPS

    share: float = 0.03
    """Share of the positions of a feature map or sequence that the loss looks at, at least one of
    each sample; 1 looks at all, as published, which costs up to a backward pass more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("share", self.share)

    def watched_share(self) -> float:
        return self.share


@rule("aa", aliases=("activation-alignment",))
@dataclass(frozen=True)
class ActivationAlignment(_ActivityAlignment):
    """``B`` minimises ``α E(‖W x‖² + ‖B x‖²) − β E⟨B x, W x⟩``, the primitives sparse and amp.

    It tends to ``(β/2α) W`` if the inputs span their space, whatever their covariance.
    """

    alpha: float = 1e-3
    """Coefficient of the sparsity."""
    beta: float = 2e-3
    """Coefficient of the amplification."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_coefficients(alpha=self.alpha, beta=self.beta)

    def activity_loss(self, x: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
        """``α E(‖W x‖² + ‖B x‖²) − β E⟨B x, W x⟩``."""
        response, projection = x @ weight.mT, x @ feedback.mT
        sparse = _mean(response * response) + _mean(projection * projection)
        return self.alpha * sparse - self.beta * _mean(projection * response)


@rule("ia", aliases=("information-alignment",))
@dataclass(frozen=True)
class InformationAlignment(_ActivityAlignment):
    """``B`` minimises ``− α E⟨B x, W x⟩ + β E‖Bᵀ W x‖² + γ ‖B‖²``: amp, null, decay."""

    alpha: float = 2e-3
    """Coefficient of the amplification."""
    beta: float = 1e-3
    """Coefficient of the null primitive, the echo of the response."""
    gamma: float = 1e-3
    """Coefficient of the decay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_coefficients(alpha=self.alpha, beta=self.beta, gamma=self.gamma)

    def activity_loss(self, x: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
        """``− α E⟨B x, W x⟩ + β E‖Bᵀ W x‖² + γ ‖B‖²``."""
        response = x @ weight.mT
        echo = response @ feedback
        amp, null = -_mean(x @ feedback.mT * response), _mean(echo * echo)
        return self.alpha * amp + self.beta * null + self.gamma * (feedback * feedback).sum()


def _mean(values: Tensor) -> Tensor:
    """Sum over groups and units of the mean over positions: of (groups, n, units)."""
    return values.sum() / max(values.shape[1], 1)
