"""What cannot be, and how loudly it fails. ``docs/limits.md`` is the page for users.

A combination in ``LIMITS`` must raise the error that stands there; all others must work.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIMITS", "Limit", "limit_of"]


@dataclass(frozen=True)
class Limit:
    """A survival that PyTorch makes impossible for some cases."""

    survivals: frozenset[str]
    cases: frozenset[str]
    error: type[Exception]
    message: str
    """Regular expression of what one sees."""


LIMITS: tuple[Limit, ...] = (
    Limit(
        survivals=frozenset({"pickle", "torch.save"}),
        cases=frozenset({"weight-norm"}),
        error=RuntimeError,
        message=r"Serialization of parametrized modules is only supported through state_dict",
    ),
)


def limit_of(survival: str, case: str) -> Limit | None:
    """The limit that a combination runs into."""
    found = (x for x in LIMITS if survival in x.survivals and case in x.cases)
    return next(found, None)
