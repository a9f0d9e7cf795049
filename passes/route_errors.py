"""Route errors around the sequential path: from the output, or from classifiers of blocks."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.bind.build_routes import route_errors
from fxbio.errors import PassError
from fxbio.passes.base import Pass, PassResult, Program
from fxbio.passes.comments import comment_sites
from fxbio.passes.registry import register_pass

__all__ = ["RouteErrors"]


@register_pass("route-errors")
@dataclass(frozen=True)
class RouteErrors(Pass):
    """Marks the layers of broadcast and local rules, and wires them to the source of the error."""

    def requires(self, program: Program) -> None:
        if program.planned().rewritten("asymmetric") and not program.bound:
            raise PassError("the modules are not bound yet", help="run bind-modules first")

    def run(self, program: Program) -> PassResult:
        plan = program.planned()
        if not plan.rewritten("broadcast", "local"):
            return PassResult(False, "no error is routed around the path")
        report = route_errors(program.model, plan, program.inputs)
        program.bound = True
        comment_sites(program, "error routed", "broadcast", "local")
        parts = [f"{report.receivers} receivers", f"matrices of {report.mebibytes:.1f} MiB"]
        if report.exact:
            parts.append(f"reached by the error itself: {', '.join(report.exact)}")
        return PassResult(True, "; ".join(parts))
