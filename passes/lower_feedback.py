"""Lower feedback: the node of a site becomes an op with a feedback weight."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.errors import PassError
from fxbio.lowering.sites import SiteLowering
from fxbio.passes.graph_pass import Pass, PassResult, Program
from fxbio.passes.registry import register_pass

__all__ = ["LowerFeedback"]


@register_pass("lower-feedback")
@dataclass(frozen=True)
class LowerFeedback(Pass):
    """``linear(x, W, b)`` becomes ``ops.linear(x, W, b, backward=(rule, scale, B))``."""

    def requires(self, program: Program) -> None:
        planned = {a.site.name for a in program.planned().rewritten("asymmetric")}
        missing = sorted(planned - set(program.feedback))
        if missing:
            raise PassError(
                f"{len(missing)} sites have no feedback yet, '{missing[0]}' among them",
                help="run make-feedback before lower-feedback",
            )

    def run(self, program: Program) -> PassResult:
        plan, lowered = program.planned(), program.lowered
        nodes = SiteLowering(program.model, plan, program.feedback, lowered).lower()
        owners = len(lowered.weights)
        return PassResult(nodes > 0, f"{nodes} nodes rewritten, in {owners} modules")

    def ensures(self, program: Program) -> None:
        program.lowered.graph.lint()
        for node in program.lowered.graph.nodes:
            if "rule" in node.meta and "site" not in node.meta:
                raise PassError(f"node '{node.name}' has a rule but no site")
