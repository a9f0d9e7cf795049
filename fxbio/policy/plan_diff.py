"""Differences of two plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fxbio.policy.assignment import Assignment
from fxbio.site import Site

if TYPE_CHECKING:
    from fxbio.policy.plan import Plan

__all__ = ["PlanDiff", "diff_plans"]


@dataclass(frozen=True)
class PlanDiff:
    """Sites that only one of two plans has, or to which they give different rules.

    It is false when the plans do the same; ``str(diff)`` has one line per difference.
    """

    added: tuple[Assignment, ...]
    removed: tuple[Assignment, ...]
    changed: tuple[tuple[Assignment, Assignment], ...]
    settings: tuple[str, ...]
    """Differences that hold for the whole model, such as the seed."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.settings)

    def __str__(self) -> str:
        if not self:
            return "the plans do the same"
        lines = [f"! {setting}" for setting in self.settings]
        lines += [f"- {a.site.name}: {a.make_rule()}" for a in self.removed]
        lines += [f"+ {a.site.name}: {a.make_rule()}" for a in self.added]
        lines += [
            f"~ {new.site.name}: {old.make_rule()} → {new.make_rule()}  ({new.decided_by})"
            for old, new in self.changed
        ]
        return "\n".join(lines)


def diff_plans(old: Plan, new: Plan) -> PlanDiff:
    """The way from one plan to another."""
    before = {_identity(a.site): a for a in old.assignments}
    after = {_identity(a.site): a for a in new.assignments}
    both = [(before[key], a) for key, a in after.items() if key in before]
    return PlanDiff(
        added=tuple(a for key, a in after.items() if key not in before),
        removed=tuple(a for key, a in before.items() if key not in after),
        changed=tuple((a, b) for a, b in both if (a.rule, a.options) != (b.rule, b.options)),
        settings=_settings(old, new),
    )


def _identity(site: Site) -> tuple[str, str, int]:
    return site.weight, site.op, site.call_index


def _settings(old: Plan, new: Plan) -> tuple[str, ...]:
    values = ((key, getattr(old, key), getattr(new, key)) for key in _SETTINGS)
    return tuple(f"{key}: {before} → {after}" for key, before, after in values if before != after)


_SETTINGS = ("seed", "persist_feedback", "allow_backprop")
