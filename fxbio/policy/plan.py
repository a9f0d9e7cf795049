"""A plan: a policy resolved against one model. Pure data, the truth about what will be done."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, get_args

from fxbio.display import data_frame
from fxbio.errors import RecordError
from fxbio.files.reading import parse_json
from fxbio.files.typed_json import from_json
from fxbio.policy.assignment import Assignment
from fxbio.policy.plan_diff import PlanDiff, diff_plans
from fxbio.policy.table import plan_html, plan_records, plan_text
from fxbio.rules import Family, Rule
from fxbio.site import Site, Unreachable

__all__ = ["Plan", "RuleTotal"]

R = TypeVar("R", bound=Rule)


@dataclass(frozen=True)
class RuleTotal:
    """Share of a model that one rule trains."""

    rule: str
    sites: int
    weights: int
    parameters: int
    share: float
    """Of the parameters of all sites."""


@dataclass(frozen=True)
class Plan:
    """Rules of all sites of a model.

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

    def rewritten(self, *families: Family) -> tuple[Assignment, ...]:
        """The assignments whose rule changes something, of all families or of those named."""
        ruled = ((a, a.make_rule()) for a in self.assignments)
        wanted = families or get_args(Family)
        return tuple(a for a, rule in ruled if rule.rewrites and rule.family in wanted)

    def ruled_by(self, kind: type[R]) -> list[tuple[Assignment, R]]:
        """The assignments whose rule is of a class and changes something, each with its rule."""
        ruled = ((a, a.make_rule()) for a in self.assignments)
        return [(a, rule) for a, rule in ruled if isinstance(rule, kind) and rule.rewrites]

    @property
    def applied(self) -> frozenset[str]:
        """Weights that layers apply to parameters or constants, the results being activations."""
        sites = (a.site for a in self.assignments if a.site.of_parameters)
        return frozenset(source for site in sites for source in site.sources)

    def totals(self) -> tuple[RuleTotal, ...]:
        """Sites, weights and parameters by rule, in the order in which the rules appear.

        A weight that is used several times is counted once; a table that is a matrix elsewhere,
        as in tied embeddings, with the rule of the matrix.
        """
        matrices = {a.site.weight for a in self.assignments if a.site.op != "embedding"}
        groups: dict[str, list[Site]] = {}
        for assignment in self.assignments:
            groups.setdefault(str(assignment.make_rule()), []).append(assignment.site)
        everything = _parameters(a.site for a in self.assignments)
        return tuple(_total(rule, sites, matrices, everything) for rule, sites in groups.items())

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
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that ``to_json`` wrote.

        Raises:
            RecordError: for a damaged plan, or one of another version.
        """
        try:
            data = parse_json(text)
        except ValueError as error:
            raise RecordError(f"the plan is not JSON: {error}") from error
        version = data.get("version") if isinstance(data, dict) else None
        if version != cls.version:
            raise RecordError(
                f"version {version} of the plan format is unknown",
                notes=[f"this fxbio reads version {cls.version}"],
                help="make the plan anew with: fxbio plan MODEL --policy FILE",
            )
        try:
            plan = from_json(data, cls)
        except ValueError as error:
            raise RecordError(f"the plan is damaged: {error}") from error
        names = Counter(assignment.site.name for assignment in plan.assignments)
        for name, count in names.most_common(1):
            if count > 1:
                raise RecordError(f"the plan is damaged: the site '{name:.80}' is in it twice")
        return plan

    def diff(self, other: Plan) -> PlanDiff:
        """Differences of ``other`` from this plan."""
        return diff_plans(self, other)

    def records(self) -> list[dict[str, Any]]:
        """One flat row per site, for ``csv.DictWriter`` or a data frame."""
        return plan_records(self)

    def to_pandas(self) -> Any:
        """One row per site as a ``pandas.DataFrame``.

        Raises:
            ConfigError: when pandas is not installed.
        """
        return data_frame(self.records())

    def __str__(self) -> str:
        return plan_text(self)

    def _repr_html_(self) -> str:
        return plan_html(self)


def _total(rule: str, sites: list[Site], matrices: set[str], everything: int) -> RuleTotal:
    counted = [s for s in sites if s.op != "embedding" or s.weight not in matrices]
    parameters = _parameters(counted)
    return RuleTotal(
        rule=rule,
        sites=len(sites),
        weights=len({site.weight for site in counted}),
        parameters=parameters,
        share=parameters / everything if everything else 0.0,
    )


def _parameters(sites: Iterable[Site]) -> int:
    # Keyed by sources: three chunks of one fused projection are three weights on one parameter.
    return sum({site.sources: site.parameters for site in sites}.values())
