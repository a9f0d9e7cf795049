"""Phases of learning: the weights of the blocks, those of the inverses, or both at once.

Alternating training switches between ``forward`` and ``inverse`` from epoch to epoch; parallel
training stays with ``both``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol, get_args

from fxbio.errors import RuleError, did_you_mean

__all__ = ["HasPhase", "Phase", "set_phase"]

Phase = Literal["forward", "inverse", "both"]


class HasPhase(Protocol):
    """Protocol of modules with phases."""

    phase: Phase


def set_phase(targets: Iterable[HasPhase], phase: Phase) -> None:
    """Have the blocks learn, or their inverses, or both.

    What does not learn gets no gradient at all, so that optimizers pass it by, momentum and weight
    decay included. Under DDP that needs ``find_unused_parameters=True``.

    Args:
        targets: the ``BlockTarget`` of every block of the model.
        phase: ``forward``, ``inverse`` or ``both``.

    Raises:
        RuleError: for any other word.
    """
    allowed = get_args(Phase)
    if phase not in allowed:
        guess = did_you_mean(str(phase), allowed)
        raise RuleError(
            f"unknown phase '{phase}'",
            notes=[*([guess] if guess else []), f"allowed: {', '.join(allowed)}"],
        )
    for target in targets:
        target.phase = phase
