"""Weight mirrors: the feedback weight learns from how the forward weight responds to noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from fxbio.rules.learning_rule import Transport, rule
from fxbio.rules.matrices import as_matrices, from_matrices, matrix_shape, no_matrices
from fxbio.rules.option_checks import check_coefficients, check_whole, check_word
from fxbio.rules.random_feedback import LearnedFeedback
from fxbio.rules.weight_info import WeightInfo

__all__ = ["WeightMirror"]

Growth = Literal["decay", "norm"]
MirrorPhase = Literal["backward", "mirror"]


@rule("wm", aliases=("weight-mirror",))
@dataclass(frozen=True)
class WeightMirror(LearnedFeedback):
    """``ΔB ∝ E[(W ξ) ξᵀ] = σ² W``: the response of the layer to noise ``ξ``, times the noise.

    Each layer has noise of its own, of the size of its patches, so it stays white. With decay ``B``
    tends to ``(β/2α) σ² W``. Only responses are read, and the norm of ``W`` under ``growth: norm``.
    """

    paper: ClassVar[str] = "Akrout et al. 2019, arXiv 1904.05391"
    transports: ClassVar[Transport] = "none"
    calls: ClassVar[str] = "(fxbio.mirror)"

    sigma: float = 1.0
    """Standard deviation of the noise."""
    samples: int = 32
    """Draws of the noise in each update."""
    alpha: float = 1e-3
    """Coefficient of the decay ``α ‖B‖²``."""
    beta: float = 2e-3
    """Coefficient of the mirrored weight."""
    growth: Growth = "decay"
    """What keeps ``B`` small: decay; or norm, after each update it gets the norm of ``W``."""
    phase: MirrorPhase = "backward"
    """backward: in every backward pass, trained by the optimizer. mirror: by calls of
    ``fxbio.mirror(model, steps)`` alone, which apply the update itself."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_coefficients(sigma=self.sigma, alpha=self.alpha, beta=self.beta)
        check_whole("samples", self.samples)
        check_word("growth", self.growth, get_args(Growth))
        check_word("phase", self.phase, get_args(MirrorPhase))

    def reads_weight(self) -> bool:
        return True

    def learns_by_gradient(self) -> bool:
        return self.phase == "backward"

    def local_gradient(
        self, weight: Tensor, learned: Tensor, info: WeightInfo, generator: torch.Generator
    ) -> Tensor:
        """``2α B − β (W Ξᵀ) Ξ / n``, with ``n`` draws of noise as the rows of ``Ξ``."""
        groups, _, inner = matrix_shape(info)
        drawn = torch.randn((groups, self.samples, inner), generator=generator)
        noise = self.sigma * drawn.to(weight.device, weight.dtype)
        response = noise @ as_matrices(weight, info).mT
        mirrored = from_matrices(response.mT @ noise, info) * (self.beta / self.samples)
        return 2 * self.alpha * learned - mirrored if self.growth == "decay" else -mirrored

    def redraw_period(self) -> int:
        return int(self.growth == "norm")

    def redraw(
        self, weight: Tensor, feedback: Tensor, info: WeightInfo, generator: torch.Generator
    ) -> Tensor:
        """``B ‖W‖ / ‖B‖``."""
        factor: Tensor = weight.norm() / feedback.norm().clamp_min(1e-30)
        return feedback * factor

    def unsupported(self, info: WeightInfo) -> str | None:
        return super().unsupported(info) or no_matrices(info)
