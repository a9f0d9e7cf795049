"""Assignments: the rule of one site, and the line of the policy that decided it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fxbio.rules import Rule, make_rule
from fxbio.site import OpKind, Site

__all__ = ["DEFAULT", "KEPT", "Assignment", "Decision"]


@dataclass(frozen=True)
class Decision:
    """The line of the policy that speaks about a site."""

    entry: int | None
    """Position of the entry in the policy; ``None`` for what is not an entry."""
    name: str
    location: str = ""
    """File and line, ``ss.yaml:4``; empty for a policy made in Python."""

    def __str__(self) -> str:
        return f"{self.location} {self.name}".strip()


DEFAULT = "default"
"""Name of the decision that no entry makes."""

KEPT: Mapping[OpKind, str] = {"norm": "norms keep bp", "embedding": "embeddings keep bp"}
"""Likewise, about the kinds of site that a policy does not speak of unless it names them."""


@dataclass(frozen=True)
class Assignment:
    """The rule of one site, and why."""

    site: Site
    rule: str
    options: dict[str, Any]
    """Every option of the rule, defaults included."""
    decided_by: Decision
    overrides: tuple[Decision, ...] = ()
    """Earlier entries that match the site too."""
    fallback: str | None = None
    """Why the site stays at bp although the policy asks for another rule."""

    @property
    def is_kept(self) -> bool:
        """True if it stays at bp for its kind, because no entry speaks of that."""
        return self.decided_by.name in KEPT.values()

    def make_rule(self) -> Rule:
        """The rule with its options, ready to be used.

        Raises:
            RuleError: when the rule is not registered here, as that of a plug-in not loaded.
        """
        return make_rule(self.rule, self.options)
