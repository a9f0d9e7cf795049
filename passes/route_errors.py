"""Route errors: cut the sequential path where errors enter that come from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.lowering.routing import route_errors
from fxbio.passes.graph_pass import Pass, PassResult, Program
from fxbio.passes.registry import register_pass

__all__ = ["RouteErrors"]


@register_pass("route-errors")
@dataclass(frozen=True)
class RouteErrors(Pass):
    """Behind a receiver ``h`` its readers read ``ops.stop(h)``; nothing is sent there yet."""

    def run(self, program: Program) -> PassResult:
        plan = program.planned()
        if not plan.rewritten("broadcast", "local"):
            return PassResult(False, "no error is routed around the path")
        routing = route_errors(program.model, program.lowered, plan)
        program.routing = routing
        parts = [f"{len(routing.found.receivers)} receivers"]
        if routing.exact:
            names = [name for name in program.lowered.units if name in routing.exact]
            parts.append(f"reached by the error itself: {', '.join(names)}")
        return PassResult(True, "; ".join(parts))

    def ensures(self, program: Program) -> None:
        program.lowered.graph.lint()
