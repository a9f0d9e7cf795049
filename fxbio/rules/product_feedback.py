"""Product feedback alignment: the error goes back through two matrices, one fixed, one learned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fxbio.rules.feedback_rule import FeedbackRule
from fxbio.rules.learning_rule import rule
from fxbio.rules.matrices import from_matrices, matrix_shape, no_matrices
from fxbio.rules.option_checks import check_share, check_whole
from fxbio.rules.weight_info import WeightInfo
from fxbio.site import MATRIX_OPS, OpKind

__all__ = ["OrthogonalProductFeedback", "ProductFeedback"]


@dataclass(frozen=True)
class _Product(FeedbackRule):
    """The path ``Bᵀ R``: of (groups, mid, out) and (groups, mid, in)."""

    tied: ClassVar[bool] = True
    ops: ClassVar[tuple[OpKind, ...]] = MATRIX_OPS

    def expansion(self) -> int:
        """Number of hidden units in between for each output."""
        return 1

    def learned(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """``R``, of a deviation ``√(2/(fan_in + fan_out))`` by its own fans (Xavier)."""
        groups, out, inner = matrix_shape(info)
        deviation = math.sqrt(2.0 / (info.fan_in + self.expansion() * info.fan_out))
        shape = (groups, self.expansion() * out, inner)
        return torch.randn(shape, generator=generator).mul_(deviation)

    def path(self, learned: Tensor, drawn: Tensor | None, info: WeightInfo) -> Tensor:
        """``Bᵀ R``. So ``∂L/∂R = B ∂L/∂W``, as if the error ``B δ`` met the input there."""
        assert drawn is not None
        return from_matrices(torch.bmm(drawn.mT, learned), info)

    def unsupported(self, info: WeightInfo) -> str | None:
        return super().unsupported(info) or no_matrices(info)


@rule("pfa", aliases=("product-feedback",))
@dataclass(frozen=True)
class ProductFeedback(_Product):
    """The error goes back through ``Bᵀ R``: ``B`` is fixed and wide, ``R`` gets ``B ∂L/∂W``.

    Under weight decay ``R`` tends to ``B W`` and the path to ``BᵀB W``, which is nearly ``W`` for
    random ``B``: at an angle of ``arccos 1/√(1 + 1/r)``, 17.5° for ``r = 10``. With a ``density``
    d below 1, ``R`` keeps its zeros, so it tends to ``B W`` at its other entries: the path comes
    to ``d W`` in the mean, at an angle of ``arccos 1/√(1 + 1/(d r))``. ``W`` and ``R`` must
    be trained alike, by an optimizer whose update is linear in the gradient, such as SGD. The path
    and its gradient are two products of weights in each step, of ``r · out² · in`` multiplications
    whatever the batch: little beside a large one, much beside a small one.
    """

    paper: ClassVar[str] = "Ji-An & Benna 2024, arXiv 2405.20594"

    ratio: int = 10
    """Units between for each output, ``r``."""
    density: float = 1.0
    """Share of the entries of ``B``, and of those of ``R``, that are not zero; the zeros of both
    are drawn once and stay."""

    @classmethod
    def memory(cls) -> str:
        return "a parameter of r times the size of W, and a matrix of (r · out) × out"

    def __post_init__(self) -> None:
        check_whole("ratio", self.ratio)
        check_share("density", self.density)

    def expansion(self) -> int:
        return self.ratio

    def draw(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """``B``: normal, ``B_ij² = 1/(density · r · out)`` on average, so that ``BᵀB ≈ 1``."""
        groups, out, _ = matrix_shape(info)
        drawn = torch.randn((groups, self.ratio * out, out), generator=generator)
        return self._thinned(drawn, generator) / math.sqrt(self.density * self.ratio * out)

    def learned(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """``R``, of the same deviation where it is not zero."""
        return self._thinned(super().learned(weight, info, generator), generator)

    def path(self, learned: Tensor, drawn: Tensor | None, info: WeightInfo) -> Tensor:
        """``Bᵀ R``. Zeros of a sparse ``R`` get no gradient, so they are its mask."""
        kept = learned * (learned != 0) if self.density < 1 else learned
        return super().path(kept, drawn, info)

    def _thinned(self, drawn: Tensor, generator: torch.Generator) -> Tensor:
        """A matrix of which the share ``density`` is kept."""
        if self.density < 1:
            drawn *= torch.rand(drawn.shape, generator=generator) < self.density
        return drawn


@rule("pfa-o")
@dataclass(frozen=True)
class OrthogonalProductFeedback(_Product):
    """As ``pfa``, with an orthogonal square ``B``: the path tends to ``W`` itself."""

    remembers: ClassVar[bool] = True  # its last digits depend on the linear algebra at hand
    paper: ClassVar[str] = "PFA-o of Ji-An & Benna 2024, arXiv 2405.20594"

    @classmethod
    def memory(cls) -> str:
        return "a parameter of the size of W, and a matrix of out × out"

    def draw(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor:
        """``B``, uniform among the orthogonal matrices of each group."""
        groups, out, _ = matrix_shape(info)
        q, r = torch.linalg.qr(torch.randn((groups, out, out), generator=generator))
        drawn: Tensor = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
        return drawn
