"""Check that the plan can be carried out, before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.errors import UnreachableWeightError
from fxbio.passes.base import Pass, PassResult, Program
from fxbio.passes.registry import register_pass
from fxbio.policy.plan import Assignment, Plan
from fxbio.rules import WeightInfo

__all__ = ["CheckSupport"]


@register_pass("check-support")
@dataclass(frozen=True)
class CheckSupport(Pass):
    """Refuses a plan that some site cannot carry out."""

    def run(self, program: Program) -> PassResult:
        plan = program.planned()
        rewritten = plan.rewritten()
        for assignment in rewritten:
            self._check(plan, assignment)
        return PassResult(False, f"{len(rewritten)} sites can run their rules")

    def _check(self, plan: Plan, assignment: Assignment) -> None:
        site, rule = assignment.site, plan.rule_of(assignment)
        info = WeightInfo.of(site)
        reason = site.unreachable or rule.unsupported(info)
        if reason is None and rule.reads_weight() and site.computed:
            reason = (
                f"rule '{rule}' reads the values of the weight when the model is transformed, "
                "and this weight is computed inside the forward"
            )
        if reason is not None:
            raise UnreachableWeightError(
                f"site '{site.name}' cannot run rule '{rule.name}': {reason}",
                notes=[f"decided by {assignment.decided_by}"],
                help="give the site rule: bp, or another rule (fxbio rules)",
            )
