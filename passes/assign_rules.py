"""Resolve the policy against the captured model."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.errors import PassError
from fxbio.passes.graph_pass import Pass, PassResult, Program
from fxbio.passes.registry import register_pass
from fxbio.policy import resolve

__all__ = ["AssignRules"]


@register_pass("assign-rules")
@dataclass(frozen=True)
class AssignRules(Pass):
    """Resolves the policy to a plan, unless a plan was given."""

    def run(self, program: Program) -> PassResult:
        if program.plan is not None:
            return PassResult(False, "the plan was given")
        if program.policy is None:
            raise PassError("there is neither a policy nor a plan")
        program.plan = resolve(program.policy, program.graph)
        rules = ", ".join(f"{t.rule} × {t.weights}" for t in program.plan.totals())
        return PassResult(True, f"{len(program.graph.sites)} sites: {rules}")

    def ensures(self, program: Program) -> None:
        plan = program.planned()
        if plan.model_digest != program.graph.digest:
            raise PassError(
                "the plan was made for another model",
                notes=[
                    f"plan: {plan.model}, {plan.model_digest[:12]}",
                    f"model: {program.graph.name}, {program.graph.digest[:12]}",
                ],
                help="make the plan anew from its policy: fxbio plan MODEL --policy FILE",
            )
