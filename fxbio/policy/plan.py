"""A plan: a policy resolved against one model. Pure data, the truth about what will be done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from fxbio.graph.site import Site, Unreachable
from fxbio.rules import Family, Rule, make_rule

if TYPE_CHECKING:
    from fxbio.policy.plan_diff import PlanDiff

__all__ = ["Assignment", "Decision", "Plan", "RuleTotal"]


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
NORMS = "norms keep bp"
"""Names of the decisions that no entry makes."""


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


@dataclass(frozen=True)
class RuleTotal:
    """How much of a model one rule trains."""

    rule: str
    sites: int
    weights: int
    parameters: int
    share: float
    """Of the parameters of all sites."""


@dataclass(frozen=True)
class Plan:
    """What each site of a model will get.

    It is made by ``fxbio.policy.resolve``; ``str(plan)`` is a plain table.
    """

    model: str
    assignments: tuple[Assignment, ...]
    """One per site, in order of execution."""
    unreachable: tuple[Unreachable, ...]
    warnings: tuple[str, ...]
    seed: int
    persist_feedback: bool
    allow_backprop: tuple[str, ...]
    model_digest: str
    policy_digest: str
    policy_text: str
    policy_source: str | None
    version: int = 1

    @staticmethod
    def rule_of(assignment: Assignment) -> Rule:
        """The rule of an assignment, ready to be used.

        Raises:
            RuleError: when the rule is not registered here, as that of a plug-in not loaded.
        """
        return make_rule(assignment.rule, assignment.options)

    def rewritten(self, *families: Family) -> tuple[Assignment, ...]:
        """The assignments whose rule changes something, of all families or of those named."""
        ruled = ((a, self.rule_of(a)) for a in self.assignments)
        wanted = families or get_args(Family)
        return tuple(a for a, rule in ruled if rule.rewrites and rule.family in wanted)

    @property
    def applied(self) -> frozenset[str]:
        """Weights that layers apply to parameters or constants, the results being activations."""
        sites = (a.site for a in self.assignments if a.site.of_parameters)
        return frozenset(source for site in sites for source in site.sources)

    def totals(self) -> tuple[RuleTotal, ...]:
        """Sites, weights and parameters by rule, in the order in which the rules appear.

        A weight that is used several times is counted once.
        """
        groups: dict[str, list[Site]] = {}
        for assignment in self.assignments:
            groups.setdefault(str(self.rule_of(assignment)), []).append(assignment.site)
        everything = _parameters(a.site for a in self.assignments)
        return tuple(_total(rule, sites, everything) for rule, sites in groups.items())

    @property
    def digest(self) -> str:
        """SHA-256 of what will be done; names, places and warnings do not count."""
        content = {
            "model": self.model_digest,
            "sites": [[a.site.name, a.rule, a.options] for a in self.assignments],
            "seed": self.seed,
            "persist_feedback": self.persist_feedback,
            "allow_backprop": self.allow_backprop,
        }
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> str:
        """The whole plan as JSON; ``Plan.from_json`` reads back an equal one."""
        # The format is built on the classes of this file, so it can only be imported late.
        from fxbio.policy.plan_json import dump_plan

        return dump_plan(self)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that ``to_json`` wrote.

        Raises:
            RecordError: for a damaged plan, or one of a later version.
        """
        from fxbio.policy.plan_json import load_plan

        return load_plan(text)

    def diff(self, other: Plan) -> PlanDiff:
        """What ``other`` does differently."""
        from fxbio.policy.plan_diff import diff_plans

        return diff_plans(self, other)

    def records(self) -> list[dict[str, Any]]:
        """One flat row per site, for ``csv.DictWriter`` or a data frame."""
        from fxbio.policy.table import plan_records

        return plan_records(self)

    def to_pandas(self) -> Any:
        """One row per site as a ``pandas.DataFrame``.

        Raises:
            ConfigError: when pandas is not installed.
        """
        from fxbio.notebook import data_frame

        return data_frame(self.records())

    def __str__(self) -> str:
        from fxbio.policy.table import plan_text

        return plan_text(self)

    def _repr_html_(self) -> str:
        from fxbio.policy.table import plan_html

        return plan_html(self)


def _total(rule: str, sites: list[Site], everything: int) -> RuleTotal:
    parameters = _parameters(sites)
    return RuleTotal(
        rule=rule,
        sites=len(sites),
        weights=len({site.weight for site in sites}),
        parameters=parameters,
        share=parameters / everything if everything else 0.0,
    )


def _parameters(sites: Iterable[Site]) -> int:
    # Keyed by sources: three chunks of one fused projection are three weights on one parameter.
    return sum({site.sources: site.parameters for site in sites}.values())
