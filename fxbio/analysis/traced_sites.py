"""Sites of a model among the operations of a training step, and the errors that arrive there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from fxbio.analysis.step_trace import Step, StepTrace
from fxbio.analysis.value_facts import applies_weight, is_additive
from fxbio.site import Site

__all__ = ["Use", "find_uses", "forward_weights", "weight_side"]

aten = torch.ops.aten

_EMBEDDINGS = {aten.embedding, torch.ops.fxbio.embedding}
_LOOKUPS = {aten.index_select, aten.index, aten.gather, aten._embedding_bag}
"""They pick entries of a weight, and no error goes back through it."""

Applications = dict[tuple[frozenset[str], bool], list[Step]]
"""By all that a weight is computed from, and whether it is the table of an embedding."""


@dataclass(frozen=True)
class Use:
    """A site, as a training step executes it."""

    site: Site
    nodes: frozenset[int]
    """Its autograd nodes; those of all uses of its weight where they cannot be told apart, and none
    where it runs without gradients."""
    outputs: frozenset[int]
    """Values that it puts out."""


def find_uses(trace: StepTrace, sites: Iterable[Site]) -> list[Use]:
    """The sites that take part in a step, matched by their weights and the order of execution."""
    applied = _applications(trace)
    groups: dict[tuple[frozenset[str], bool], list[Site]] = defaultdict(list)
    for site in sites:
        if site.calls:
            groups[frozenset(site.sources), site.op == "embedding"].append(site)
    found: list[Use] = []
    for key, members in groups.items():
        steps = applied.get(key, [])
        if len(steps) >= len(members):
            found += [_use(site, [step]) for site, step in zip(members, steps, strict=False)]
        elif steps:
            found += [_use(site, steps) for site in members]
    return sorted(found, key=lambda use: use.site.order)


def _use(site: Site, steps: list[Step]) -> Use:
    outputs = (value for step in steps for value in step.writes[:1])
    nodes = (step.node for step in steps if step.differentiable)
    return Use(site, frozenset(nodes), frozenset(outputs))


def _applications(trace: StepTrace) -> Applications:
    """The forward steps that apply a weight to data, and those that look up rows of a table."""
    found: Applications = defaultdict(list)
    for step in trace.forward():
        if step.op.overloadpacket in _LOOKUPS:
            continue
        table = step.op.overloadpacket in _EMBEDDINGS
        data = any(trace.facts[value].data for _, value in step.reads)
        if not data and not table and not applies_weight(step.op):
            continue
        for position, value in step.reads:
            names = trace.facts[value].names.keys() & trace.parameters
            if names and not is_additive(step.op, position):
                found[frozenset(names), table].append(step)
    return found


def forward_weights(trace: StepTrace) -> set[str]:
    """Parameters that the forward pass applies to data."""
    return {name for names, table in _applications(trace) if not table for name in names}


def weight_side(trace: StepTrace) -> set[int]:
    """Autograd nodes whose forward only computed with weights, as in weight normalisation.

    What goes back through them is the gradient of a weight and not the error of a layer. The nodes
    of the parameters themselves, where hooks on parameters run, are among them.
    """
    leaves = {step.node for step in trace.steps if step.owner.endswith("AccumulateGrad")}
    saw_data: dict[int, bool] = {}
    for step in trace.forward():
        if not step.owner:
            data = any(trace.facts[value].data for _, value in step.reads)
            saw_data[step.node] = saw_data.get(step.node, False) or data
    return leaves | {node for node, data in saw_data.items() if not data}
