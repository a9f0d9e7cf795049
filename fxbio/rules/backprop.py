"""Backprop and its two mutilations, which serve as controls: ``frozen`` and ``stop``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fxbio.rules.feedback_rule import FeedbackRule
from fxbio.rules.learning_rule import Transport, rule

__all__ = ["Backprop", "Frozen", "Stop"]


@rule("bp", aliases=("backprop",))
@dataclass(frozen=True)
class Backprop(FeedbackRule):
    """The error goes back through the forward weight: ``B = W``. The site is left as it is."""

    paper: ClassVar[str] = "Rumelhart, Hinton & Williams 1986"
    rewrites: ClassVar[bool] = False
    transports: ClassVar[Transport] = "weights"

    def __post_init__(self) -> None:
        """A site whose error is transformed is no longer left as it is."""
        if self.error:
            object.__setattr__(self, "rewrites", True)

    def feedback(self, weight: Tensor, drawn: Tensor | None) -> Tensor:
        """``B = W``."""
        return weight


@rule("frozen")
@dataclass(frozen=True)
class Frozen(FeedbackRule):
    """The weight gets no update; the error still passes through it: ``∂L/∂W := 0, B = W``.

    The parameter's ``requires_grad`` is switched off, so optimizers and DDP pass it by; ``revert``
    switches it on again. A loop that switches it on itself does not thaw it: its layer gives it no
    gradient. The bias keeps learning.
    """

    trains_weight: ClassVar[bool] = False
    transports: ClassVar[Transport] = "weights"

    def feedback(self, weight: Tensor, drawn: Tensor | None) -> Tensor:
        """``B = W``."""
        return weight


@rule("stop")
@dataclass(frozen=True)
class Stop(FeedbackRule):
    """The error does not pass: ``B = 0``. The weight itself learns as under backprop.

    Layers that are reached through this one alone get no gradient at all, as after ``detach``.
    """

    passes_error: ClassVar[bool] = False
