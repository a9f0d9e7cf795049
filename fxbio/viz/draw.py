"""From a model and a policy to a picture of both ways through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import fx, nn

from fxbio.api import revert
from fxbio.graph.capture import capture
from fxbio.graph.dataflow import activation_flow
from fxbio.graph.model_copy import copy_model
from fxbio.graph.model_graph import ModelGraph
from fxbio.lowering.lowered_graph import LoweredGraph
from fxbio.lowering.routing import route_errors
from fxbio.policy import Plan, Policy, resolve
from fxbio.serialization.record import RECORD, record_of
from fxbio.viz.boxes import Box
from fxbio.viz.colours import colours_of
from fxbio.viz.composition import compose
from fxbio.viz.crossings import crossings
from fxbio.viz.edges import draw_edges
from fxbio.viz.error_flow import ErrorFlow
from fxbio.viz.nodes import NodeMaker
from fxbio.viz.picture import LegendEntry, Level, Node, Picture
from fxbio.viz.wiring import INPUT, OUTPUT, Wiring
from fxbio.wrappers import unwrapped

__all__ = ["draw"]


def draw(
    model: nn.Module,
    policy: Policy | Plan | None = None,
    example_inputs: Any = None,
    *,
    level: Level = "block",
) -> Picture:
    """Draw the forward path of a model and, beside it, the way its errors take.

    Args:
        model: any module, transformed or not. It is left as it is.
        policy: a policy, or a plan made from one for the same model; without, that of a transformed
            model, or backprop.
        example_inputs: as for ``capture``; by default those that it was transformed with.
        level: ``block`` draws modules that repeat as one box each and counts runs of alike ones;
            ``site`` draws every weight.

    Raises:
        ModelError, CaptureError, PolicyError, UnreachableWeightError: as for ``fxbio.plan``.
    """
    model, captured = unwrapped(model), None
    if policy is None and RECORD in vars(model):
        record = record_of(model)
        captured = record.graph if example_inputs is None else None
        model, policy = revert(copy_model(model)), record.plan
        example_inputs = record.inputs if example_inputs is None else example_inputs
    if captured is None:
        captured = capture(model, example_inputs)
    graph = captured
    plan = policy if isinstance(policy, Plan) else resolve(policy or Policy.uniform("bp"), graph)
    rules = {a.site.name: a.make_rule() for a in plan.assignments}
    weighted = {
        path for path, module in model.named_modules() if any(True for _ in module.parameters())
    }
    flow = activation_flow(model, graph).nodes
    errors = ErrorFlow(flow, _routed(model, graph, plan), rules, weighted)
    crossed = crossings(errors)
    boxes, wiring = compose(model, plan, errors, crossed, level)
    labels = _labels(plan)
    maker = NodeMaker(plan, crossed, labels, lambda path: type(model.get_submodule(path)).__name__)
    order = sorted(wiring.graph, key=lambda vertex: wiring.graph.nodes[vertex]["order"])
    ids = {vertex: f"n{number}" for number, vertex in enumerate(order)}
    nodes = [_node(ids[v], v, boxes, wiring, graph, maker) for v in order]
    return Picture(
        title=graph.name,
        subtitle=_subtitle(plan, isinstance(policy, Policy | Plan)),
        level=level,
        nodes=tuple(nodes),
        edges=tuple(draw_edges(wiring, errors, ids, dict(zip(order, nodes, strict=True)))),
        legend=_legend(plan, labels),
        undrawn=tuple(u.path or graph.name for u in plan.unreachable if u.weights),
    )


def _routed(model: nn.Module, graph: ModelGraph, plan: Plan) -> LoweredGraph:
    """The lowered graph, as far as it says between which nodes errors go."""
    lowered = LoweredGraph.of(graph)
    if plan.rewritten("broadcast", "local"):
        route_errors(model, lowered, plan)
    return lowered


def _node(
    id: str,
    vertex: str,
    boxes: dict[str, Box],
    wiring: Wiring,
    graph: ModelGraph,
    maker: NodeMaker,
) -> Node:
    if vertex in boxes:
        return maker.box(id, boxes[vertex])
    if vertex == INPUT:
        return Node(id, "input", "input", _shapes(_inputs(graph)))
    if vertex == OUTPUT:
        returned = (node for node in graph.graph.nodes if node.op == "output")
        outputs = [source for node in returned for source in node.all_input_nodes]
        return Node(id, "output", "output", _shapes(outputs))
    return Node(id, "join", wiring.joins[vertex])


def _inputs(graph: ModelGraph) -> list[fx.Node]:
    """The placeholders that lead to a weight; targets do not."""
    needed = set(graph.nodes.values())
    for node in reversed(list(graph.graph.nodes)):
        if not needed.isdisjoint(node.users):
            needed.add(node)
    return [node for node in graph.graph.nodes if node.op == "placeholder" and node in needed]


def _shapes(nodes: list[fx.Node]) -> str:
    found = [node.meta["shape"] for node in nodes if "shape" in node.meta]
    shapes = ["×".join(map(str, shape)) or "scalar" for shape in found]
    more = f" and {len(shapes) - 2} more" if len(shapes) > 2 else ""
    return ", ".join(shapes[:2]) + more


def _labels(plan: Plan) -> dict[str, str]:
    """Rules by name alone, unless the plan has one rule with different options."""
    names = {str(a.make_rule()): a.rule for a in plan.assignments}
    often = list(names.values())
    return {full: full if often.count(name) > 1 else name for full, name in names.items()}


def _subtitle(plan: Plan, has_policy: bool) -> str:
    source = Path(plan.policy_source).name if plan.policy_source else "policy without a file"
    norms, tables = (
        sum(a.is_kept and a.site.op == kind for a in plan.assignments)
        for kind in ("norm", "embedding")
    )
    counted = ((norms, "scales of norms"), (tables, "embeddings"))
    kept = "".join(f" and {count} {words}" for count, words in counted if count)
    kept += ", which keep bp" if kept else ""
    return (
        f"{source if has_policy else 'backprop everywhere'} · "
        f"{len(plan.assignments) - norms - tables} sites{kept}"
    )


def _legend(plan: Plan, labels: dict[str, str]) -> tuple[LegendEntry, ...]:
    names = {labels[str(a.make_rule())]: a.rule for a in plan.assignments}
    colours = colours_of(names.items())
    return tuple(
        LegendEntry(label, colours[label], total.sites, total.share)
        for total in plan.totals()
        for label in [labels[total.rule]]
    )
