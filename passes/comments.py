"""Comments in the readable graphs on layers whose errors leave the path of the forward pass."""

from __future__ import annotations

from fxbio.passes.base import Program
from fxbio.rules import Family

__all__ = ["comment_sites"]


def comment_sites(program: Program, what: str, *families: Family) -> None:
    """Mark the nodes of all sites with a rule of the families.

    Args:
        program: with its graphs rewritten.
        what: is said of them, in front of the rule.
        families: of rules that no node of a forward graph can show.
    """
    plan = program.planned()
    chosen = {a.site.name: a for a in plan.rewritten(*families)}
    for graph in program.rewritten.values():
        for node in graph.nodes:
            assignment = chosen.get(node.meta.get("site"))
            if assignment is not None:
                rule = plan.rule_of(assignment)
                node.meta["routed"] = f"{what}: {rule} ← {assignment.decided_by}"
