"""Rewrite the graphs: the node of a site becomes an op with the backward path of its rule."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from fxbio.bind.build import build_bindings
from fxbio.errors import PassError
from fxbio.graph.copy import copy_graph
from fxbio.passes.base import Pass, PassResult, Program
from fxbio.passes.lowering import SiteLowering
from fxbio.passes.registry import register_pass

__all__ = ["LowerSites"]


@register_pass("lower-sites")
@dataclass(frozen=True)
class LowerSites(Pass):
    """Rewrites the graph of the whole pass and of every island, and prepares the bindings."""

    def requires(self, program: Program) -> None:
        planned = {a.site.name for a in program.planned().rewritten("asymmetric")}
        missing = sorted(planned - set(program.feedback))
        if missing:
            raise PassError(
                f"{len(missing)} sites have no feedback yet, '{missing[0]}' among them",
                help="run make-feedback before lower-sites",
            )

    def run(self, program: Program) -> PassResult:
        plan = program.planned()
        program.pending = build_bindings(program.model, program.graph, plan, program.feedback)
        lowering = SiteLowering(program.model, plan, program.feedback, program.pending)
        graphs = {island.path: island.graph for island in program.graph.islands}
        graphs.setdefault("", program.graph.graph)
        program.rewritten = {path: copy_graph(graph) for path, graph in graphs.items()}
        nodes = sum(lowering.lower(graph) for graph in program.rewritten.values())
        return PassResult(nodes > 0, f"{nodes} nodes rewritten in {len(graphs)} graphs")

    def ensures(self, program: Program) -> None:
        for graph in program.rewritten.values():
            graph.lint()
            _check_order(graph)


def _check_order(graph: fx.Graph) -> None:
    """Every rewritten node says which site it runs."""
    for node in graph.nodes:
        if "rule" in node.meta and "site" not in node.meta:
            raise PassError(f"node '{node.name}' has a rule but no site")
