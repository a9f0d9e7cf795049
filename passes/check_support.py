"""Check that the plan can be carried out, before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.errors import UnreachableWeightError
from fxbio.globs import glob_matches
from fxbio.passes.graph_pass import Pass, PassResult, Program
from fxbio.passes.registry import register_pass
from fxbio.policy.assignment import Assignment
from fxbio.policy.plan import Plan
from fxbio.rules import FeedbackRule, WeightInfo

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
        if rewritten:
            self._check_unexplained(plan)
        self._check_derivatives(program, plan)
        return PassResult(False, f"{len(rewritten)} sites can run their rules")

    def _check_unexplained(self, plan: Plan) -> None:
        """Refuse weights that only the dispatcher saw: they would be silent backprop."""
        for part in plan.unreachable:
            if part.explained or _allowed(plan, part.path):
                continue
            for name in part.weights:
                if not _allowed(plan, name):
                    raise UnreachableWeightError(
                        f"'{name}' is {part.reason}, so no rule can reach it",
                        notes=[f"in the forward of {part.path or 'the model'} ({part.origin})"],
                        help=f'to accept that, add to the policy: allow_backprop: ["{name}"]',
                    )

    def _check_derivatives(self, program: Program, plan: Plan) -> None:
        """Refuse rules that would change derivatives inside of the forward."""
        routed = plan.rewritten("broadcast", "local", "target")
        if routed and program.graph.derivatives:
            raise UnreachableWeightError(
                f"rule '{routed[0].rule}' changes the way back between layers, and the forward "
                "takes a derivative itself",
                notes=[
                    f"at {program.graph.derivatives[0]}",
                    f"asked for by {routed[0].decided_by}",
                ],
                help="use rules that stay inside of a layer, such as fa, usf or kp: layers that "
                "the derivative crosses keep bp",
            )

    def _check(self, plan: Plan, assignment: Assignment) -> None:
        site, rule = assignment.site, assignment.make_rule()
        info = WeightInfo.of(site)
        reason = site.unreachable or rule.unsupported(info)
        reads_values = isinstance(rule, FeedbackRule) and rule.reads_weight()
        if reason is None and reads_values and site.computed:
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


def _allowed(plan: Plan, name: str) -> bool:
    return any(glob_matches(glob, name) for glob in plan.allow_backprop)
