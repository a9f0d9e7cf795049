"""The layers and blocks of a plan whose errors are routed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from fxbio.errors import PolicyError
from fxbio.globs import glob_matches
from fxbio.policy.assignment import Assignment
from fxbio.policy.plan import Plan
from fxbio.rules.routed_rule import RoutedRule
from fxbio.semantics.error_routing import Unit
from fxbio.site import Site

__all__ = ["RoutedUnit", "routed_units"]


@dataclass(frozen=True)
class RoutedUnit:
    """A layer or a block with the rule that routes its error."""

    unit: Unit
    rule: RoutedRule
    site: Site
    """The layer itself, or the last layer of the block."""
    layer: Any
    """The module that applies its weight."""


def routed_units(model: nn.Module, plan: Plan) -> list[RoutedUnit]:
    """The units of a plan, in order of execution.

    Raises:
        PolicyError: where a layer cannot be told from others in its module, where no block holds
            it, or where a block is given two rules.
    """
    found: dict[str, tuple[RoutedUnit, Assignment]] = {}
    for assignment, rule in plan.ruled_by(RoutedRule):
        site = assignment.site
        name = _block_of(assignment, rule) if rule.at == "block" else _layer_of(plan, assignment)
        earlier = found.get(name)
        if earlier is not None and earlier[0].rule != rule:
            raise PolicyError(
                f"block '{name}' is given two rules",
                notes=[
                    f"{a.site.name} gets {a.make_rule()} from {a.decided_by}"
                    for a in (earlier[1], assignment)
                ],
                help="select the whole block in one entry",
            )
        order = site.order if earlier is None else earlier[0].unit.order
        unit = Unit(name, order, rule.at, rule.skip == "cut", str(assignment.decided_by))
        found[name] = (RoutedUnit(unit, rule, site, model.get_submodule(site.owner)), assignment)
    return [routed for routed, _ in found.values()]


def _block_of(assignment: Assignment, rule: RoutedRule) -> str:
    """The outermost module around a layer that the glob of the rule names."""
    parts = assignment.site.owner.split(".")
    paths = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    for path in paths:
        if glob_matches(rule.block, path):
            return path
    raise PolicyError(
        f"no block around '{assignment.site.name}' is called '{rule.block}'",
        notes=[f"decided by {assignment.decided_by}", f"modules around it: {', '.join(paths)}"],
        help="select only layers inside of the blocks, or choose another glob for 'block'",
    )


def _layer_of(plan: Plan, assignment: Assignment) -> str:
    """The module that applies the weight of a site and no other."""
    site = assignment.site
    inside = {a.site.weight for a in plan.assignments if a.site.owner == site.owner}
    if site.owner and len(inside) == 1:
        return site.owner
    raise PolicyError(
        f"'{site.name}' has no module of its own whose error could be routed",
        notes=[
            f"{site.owner or 'the model'} applies {len(inside)} weights in its own forward",
            f"decided by {assignment.decided_by}",
        ],
        help="route the error of a whole block: {at: block, block: GLOB}, or choose another rule",
    )
