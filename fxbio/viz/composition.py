"""Boxes of a picture at a level, and their wires."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from fxbio.policy import Plan
from fxbio.viz.boxes import Box, by_block, by_weight
from fxbio.viz.crossings import Crossing
from fxbio.viz.error_flow import ErrorFlow
from fxbio.viz.module_blocks import block_modules
from fxbio.viz.picture import Level
from fxbio.viz.repeats import absorb_residuals, collapse_repeats
from fxbio.viz.wiring import Wiring, wire

__all__ = ["compose"]

_MANY = 48
"""Boxes of a picture at the level of blocks; a larger one is drawn one level further up."""


def compose(
    model: nn.Module,
    plan: Plan,
    errors: ErrorFlow,
    crossings: Mapping[str, Crossing],
    level: Level,
) -> tuple[dict[str, Box], Wiring]:
    """The boxes by key, and the wires between them.

    Args:
        model: the module that was captured.
        plan: has the sites and their rules.
        errors: the way of errors through the pass.
        crossings: of errors, by the name of the site.
        level: see ``Level``.
    """
    if level == "site":
        boxes = {box.key: box for box in by_weight(plan.assignments)}
        wiring = wire(errors.flow, errors.graph, boxes.values())
        wiring.merge_into_output()
        return boxes, wiring
    blocks = block_modules(model, errors.graph.sites)
    for depth in range(_deepest(plan), 0, -1):
        boxes = {box.key: box for box in by_block(plan.assignments, blocks, depth)}
        wiring = wire(errors.flow, errors.graph, boxes.values())
        absorb_residuals(wiring, boxes)
        wiring.merge_into_output()
        boxes = collapse_repeats(wiring, boxes, crossings)
        if len(boxes) <= _MANY:
            break
    return boxes, wiring


def _deepest(plan: Plan) -> int:
    return max((a.site.path.count(".") + 1 for a in plan.assignments), default=1)
