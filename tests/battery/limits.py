"""What cannot be, and how loudly it fails. ``docs/limits.md`` is the page for users.

A combination in ``LIMITS`` must raise the error that stands there; all others must work.
"""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.errors import ModelError
from tests.battery.cases import CASES
from tests.battery.rules import RULES

__all__ = ["LIMITS", "Limit", "limit_of"]


@dataclass(frozen=True)
class Limit:
    """A survival that is impossible for some cases, under all rules or some."""

    survivals: frozenset[str]
    cases: frozenset[str]
    error: type[Exception]
    message: str
    """Regular expression of what one sees."""
    rules: frozenset[str] = frozenset(RULES)


LIMITS: tuple[Limit, ...] = (
    Limit(
        survivals=frozenset({"pickle", "torch.save"}),
        cases=frozenset({"weight-norm"}),
        error=RuntimeError,
        message=r"Serialization of parametrized modules is only supported through state_dict",
    ),
    Limit(
        survivals=frozenset({"checkpoint-for-stock"}),
        cases=frozenset(CASES),
        error=RuntimeError,
        message=r"Unexpected key\(s\) in state_dict: .*fxbio_feedback",
        rules=frozenset(name for name, line in RULES.items() if line.extends_state),
    ),
    Limit(
        survivals=frozenset({"functional_call"}),
        cases=frozenset(CASES),
        error=ModelError,
        message=r"is not the module's own parameter",
        rules=frozenset(name for name, line in RULES.items() if line.loss or line.activity_loss),
    ),
)


def limit_of(survival: str, rule: str, case: str) -> Limit | None:
    """The limit that a combination runs into."""
    found = (x for x in LIMITS if survival in x.survivals and rule in x.rules and case in x.cases)
    return next(found, None)
