"""Place differences of targets between the blocks of the model, and their learned inverses."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.bind.build_targets import place_targets
from fxbio.errors import PassError
from fxbio.passes.base import Pass, PassResult, Program
from fxbio.passes.comments import comment_sites
from fxbio.passes.registry import register_pass

__all__ = ["PlaceTargets"]


@register_pass("place-targets")
@dataclass(frozen=True)
class PlaceTargets(Pass):
    """Cuts the model into blocks, gives each an inverse, and marks where the blocks begin."""

    def requires(self, program: Program) -> None:
        if program.planned().rewritten("asymmetric") and not program.bound:
            raise PassError("the modules are not bound yet", help="run bind-modules first")

    def run(self, program: Program) -> PassResult:
        plan = program.planned()
        if not plan.rewritten("target"):
            return PassResult(False, "no block learns from targets")
        report = place_targets(program.model, program.graph, plan)
        comment_sites(program, "learns from targets", "target")
        program.bound = True
        return PassResult(
            True,
            f"{report.blocks} blocks, {report.inverses} inverses ({report.parameters:,} weights)",
        )
