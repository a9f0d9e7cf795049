"""Lower targets: between blocks a difference of learned inverses takes the place of the error."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.lowering.target_blocks import lower_targets
from fxbio.passes.graph_pass import Pass, PassResult, Program
from fxbio.passes.registry import register_pass

__all__ = ["LowerTargets"]


@register_pass("lower-targets")
@dataclass(frozen=True)
class LowerTargets(Pass):
    """``h = block(ops.stop(x)); h = connect_block(h, x, inverse, block)``."""

    def run(self, program: Program) -> PassResult:
        plan = program.planned()
        if not plan.rewritten("target"):
            return PassResult(False, "no block learns from targets")
        report = lower_targets(program.model, program.lowered, plan)
        weights = f"{report.inverses} inverses ({report.parameters:,} weights)"
        return PassResult(True, f"{report.blocks} blocks, {weights}")

    def ensures(self, program: Program) -> None:
        program.lowered.graph.lint()
