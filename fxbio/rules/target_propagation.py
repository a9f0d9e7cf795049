"""Target propagation: learned inverses carry targets down in place of errors.

A block ``h = f(x)`` has an inverse ``g(h) ≈ x``. With δ the error at h, its target is
``ĥ = h − δ``, and the block below gets the error ``g(h) − g(ĥ)``. The block's own weights learn
from δ, the gradient of ``½‖f(x) − ĥ‖²``, and ``g`` from a loss of its own; both in the same
``backward()``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fxbio.rules.learning_rule import Family, Rule, rule
from fxbio.rules.option_checks import (
    check_momentum,
    check_positive,
    check_whole,
    check_word,
    names,
)
from fxbio.site import MATRIX_OPS, OpKind

__all__ = [
    "AuxiliaryTargets",
    "DifferenceReconstruction",
    "DifferenceTargets",
    "InverseLoss",
    "LocalDifferenceReconstruction",
    "Placement",
    "SimplifiedTargets",
    "TargetRule",
    "Targets",
    "Top",
]

InverseLoss = Literal[
    "reconstruction", "noise-preserving", "de-noising", "difference", "local-difference"
]
"""What an inverse learns from, see ``fxbio.target_propagation.losses``."""

Top = Literal["bp", "label", "step"]
"""Where the targets begin. ``bp``: the last layer learns by backprop, and the output of the layer
below takes a step ``ĥ = h − α ∂L/∂h``. ``label``: the target of ``softmax(logits)`` is the label.
``step``: the logits take the step."""

Placement = Literal["after", "before"]
"""``after``: ``g(h) = σ(V h + c)`` with the σ that made the input (Lee et al. 2015). ``before``:
``g(h) = V σ(h) + c`` with the σ of the block itself, the reverse of ``f(x) = σ(W x)`` (Ernoult et
al. 2022), for which ``J_g = J_fᵀ`` can hold exactly."""


@dataclass(frozen=True)
class TargetRule(Rule):
    """Base of the family of target propagation. Properties are what a rule does not offer."""

    family: ClassVar[Family] = "target"
    calls: ClassVar[str] = "(fxbio.set_phase)"
    ops: ClassVar[tuple[OpKind, ...]] = MATRIX_OPS
    loss: ClassVar[InverseLoss] = "reconstruction"
    placement: ClassVar[Placement] = "after"
    corrected: ClassVar[bool] = True
    """Whether the error is a difference to ``g(h)`` rather than to ``x``."""

    reduction: Literal["mean", "sum"] = "mean"
    """How the loss adds up the batch; targets are made from the error of one sample."""
    inverse: str = ""
    """file.py:function or package.module:function that makes the inverse of a block in place of the
    mirrored one; the file's path is relative to that of the policy."""
    blocks: tuple[str, ...] = ()
    """Globs of modules that are one block each; other blocks are as small as possible."""

    @classmethod
    def memory(cls) -> str:
        return "an inverse of each block, about the size of its weights"

    def __post_init__(self) -> None:
        check_word("reduction", self.reduction, ("mean", "sum"))
        object.__setattr__(self, "blocks", names("blocks", self.blocks))

    def unscalable(self) -> str | None:
        return "a target is made from the error of one sample as it is"

    @property
    def top(self) -> Top:
        """Layer at which the targets begin."""
        return "label"

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise that the inverse learns with."""
        return 0.0

    @property
    def step(self) -> float:
        """Factor of the error that the targets begin with."""
        return 1.0

    @property
    def auxiliary(self) -> int:
        """Number of random features that the last inverse is given besides the output."""
        return 0

    @property
    def iterations(self) -> int:
        """Steps of ``fxbio.train_feedback`` per batch; 0 where each backward pass trains g."""
        return 0


@rule("tp", aliases=("target-propagation",))
@dataclass(frozen=True)
class Targets(TargetRule):
    """``δ_x = x − g(h − δ)``, with ``‖g(f(x)) − x‖²`` as the loss of ``g``."""

    paper: ClassVar[str] = "Bengio 2014, arXiv 1407.7906; Lee et al. 2015, arXiv 1412.7525"
    corrected: ClassVar[bool] = False

    penultimate: Literal["bp", "inverse"] = "inverse"
    """How the layer below the output gets its target: from the label through an inverse, which
    needs a softmax cross-entropy, or by one step of backprop."""
    step: float = 0.1
    """The factor α of that step of backprop, along the error of one sample. Code that steps along
    the gradient of the batch mean, as Lee's, has α/N here for its α and batches of N."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("penultimate", self.penultimate, ("bp", "inverse"))
        check_positive("step", self.step)

    @property
    def top(self) -> Top:
        return "bp" if self.penultimate == "bp" else "label"


@rule("dtp", aliases=("difference-target-propagation",))
@dataclass(frozen=True)
class DifferenceTargets(TargetRule):
    """``δ_x = g(h) − g(h − δ)``, with ``‖g(f(x + ε)) − (x + ε)‖²`` as the loss of ``g``."""

    paper: ClassVar[str] = "Lee et al. 2015, arXiv 1412.7525"
    loss: ClassVar[InverseLoss] = "noise-preserving"

    penultimate: Literal["bp", "inverse"] = "bp"
    """How the layer below the output gets its target: by one step of backprop, or from the label
    through an inverse, which needs a softmax cross-entropy."""
    step: float = 0.1
    """The factor α of that step of backprop, along the error of one sample. Code that steps along
    the gradient of the batch mean, as Lee's, has α/N here for its α and batches of N."""
    sigma: float = 0.2
    """Standard deviation of the noise ε."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("penultimate", self.penultimate, ("bp", "inverse"))
        check_positive("step", self.step)
        check_positive("sigma", self.sigma)

    @property
    def top(self) -> Top:
        return "bp" if self.penultimate == "bp" else "label"


@rule("sdtp", aliases=("simplified-difference-target-propagation",))
@dataclass(frozen=True)
class SimplifiedTargets(TargetRule):
    """As ``dtp`` from the label down, without any gradient: ``δ_x = g(p) − g(y)`` at the output.

    The distribution of the label is recovered from the error of a softmax cross-entropy,
    ``y = softmax(a) − N e``. The loss of ``g`` is ``‖g(f(x + ε)) − x‖²``.
    """

    paper: ClassVar[str] = "Bartunov et al. 2018, arXiv 1807.04587"
    loss: ClassVar[InverseLoss] = "de-noising"

    sigma: float = 0.2
    """Standard deviation of the noise ε."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("sigma", self.sigma)


@rule("ao-sdtp", aliases=("auxiliary-output-sdtp",))
@dataclass(frozen=True)
class AuxiliaryTargets(SimplifiedTargets):
    """As ``sdtp``, with random features z of its input beside the output: ``g(p, z) − g(y, z)``."""

    auxiliary: int = 512
    """Number of features z; their weights are drawn once and never learn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("auxiliary", self.auxiliary)


@rule("drl", aliases=("difference-reconstruction-loss",))
@dataclass(frozen=True)
class DifferenceReconstruction(TargetRule):
    """As ``dtp``, with ``‖x + g(f(x + ε)) − g(f(x)) − (x + ε)‖²/σ²`` as the loss of ``g``.

    With ``iterations``, f goes through all layers to the output, and back by differences, as
    published; without, every layer by itself.
    """

    paper: ClassVar[str] = "Meulemans et al. 2020, arXiv 2006.14331"
    loss: ClassVar[InverseLoss] = "difference"
    calls: ClassVar[str] = "(fxbio.train_feedback)"

    sigma: float = 0.1
    """Standard deviation of the noise ε."""
    step: float = 0.03
    """The step of the logits, ``ô = o − β ∂L/∂o`` for each sample. Code that steps along the
    gradient of the batch mean, as Meulemans', has β/N here for its β and batches of N."""
    iterations: int = 0
    """Steps that fxbio.train_feedback(model, batch) trains each inverse for. 0: the loss joins that
    of the model, and the optimizer of the model trains the inverses."""
    feedback_lr: float = 0.001
    """Learning rate of those steps, by stochastic gradient descent."""
    feedback_momentum: float = 0.9
    """Momentum of those steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sigma", "step", "feedback_lr"):
            check_positive(name, getattr(self, name))
        check_whole("iterations", self.iterations, least=0)
        check_momentum("feedback_momentum", self.feedback_momentum)

    @property
    def top(self) -> Top:
        return "step"


@rule("l-drl", aliases=("local-difference-reconstruction-loss",))
@dataclass(frozen=True)
class LocalDifferenceReconstruction(DifferenceReconstruction):
    """As ``dtp``, with a loss of ``g`` whose minimum is ``J_g = J_fᵀ``.

    ``−2 Σ ε·[g(f(x + ε)) − g(f(x))] + Σ [g(f(x) + η) − g(f(x))]²``, for noise ε and η.
    """

    paper: ClassVar[str] = "Ernoult et al. 2022, arXiv 2201.13415"
    loss: ClassVar[InverseLoss] = "local-difference"
    calls: ClassVar[str] = "fxbio.train_feedback"
    placement: ClassVar[Placement] = "before"

    sigma: float = 0.2
    """Standard deviation of the noise ε and η."""
    step: float = 0.7
    """The step of the logits, ``ô = o − β ∂L/∂o`` for each sample."""
    iterations: int = 20
    """Steps that fxbio.train_feedback(model, batch) trains each inverse for. 0: the loss joins that
    of the model, and the optimizer of the model trains the inverses."""
