"""Kolen–Pollack: forward and feedback weight get the same updates and decay into one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fxbio.rules.learning_rule import rule
from fxbio.rules.random_feedback import LearnedFeedback

__all__ = ["KolenPollack"]


@rule("kp", aliases=("kolen-pollack",))
@dataclass(frozen=True)
class KolenPollack(LearnedFeedback):
    """``ΔB = ΔW``: both get the gradient ``δ hᵀ``, and weight decay does the rest.

    With rate ``η`` and decay ``λ`` of the optimizer, ``W − B`` shrinks by ``1 − ηλ`` in each step.
    So both must be trained alike, with the same rate, momentum and weight decay, and without a
    decay they never meet. No weight is read: the update needs what is before and behind the
    synapse, and both ends of a pair of synapses have that.
    """

    paper: ClassVar[str] = "Kolen & Pollack 1994; Akrout et al. 2019, arXiv 1904.05391"
    tied: ClassVar[bool] = True
