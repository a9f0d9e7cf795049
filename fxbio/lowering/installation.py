"""The installation: what a lowered graph means for each module of the user's model."""

from __future__ import annotations

from torch import fx

from fxbio.lowering.lowered_graph import LoweredGraph
from fxbio.ops.error_port import LABEL
from fxbio.ops.functional import broadcast, label_port
from fxbio.ops.mark import ENTER, LEAVE, SOURCE
from fxbio.runtime.binding import Delivery, Installation, Mark, ModuleBinding, Routes, Targets

__all__ = ["derive_installation"]


def derive_installation(lowered: LoweredGraph) -> Installation:
    """Installation that makes each module run what the graph says."""
    marks, attached = _marks(lowered), _attached(lowered)
    routes, targets = _routes(lowered), _targets(lowered)
    root = {""} if routes is not None or targets is not None else set()
    owners = {*lowered.weights, *marks, *attached, *root}
    bindings = {
        owner: ModuleBinding(
            weights=tuple(lowered.weights.get(owner, ())),
            frozen=tuple(lowered.frozen.get(owner, ())),
            marks=tuple(marks.get(owner, ())),
            routes=None if owner else routes,
            targets=None if owner else targets,
            attached=tuple(attached.get(owner, ())),
        )
        for owner in sorted(owners)
    }
    return Installation(bindings, dict(lowered.state), dict(lowered.modules))


def _marks(lowered: LoweredGraph) -> dict[str, list[Mark]]:
    """Marks that each module sets on its inputs and outputs for the scopes around it."""
    marks: dict[str, list[Mark]] = {}

    def add(path: str, why: str, *events: str) -> None:
        known = marks.setdefault(path, [])
        told = {mark.event for mark in known}
        known += [Mark(event, path, why) for event in events if event not in told]

    for name, unit in lowered.units.items():
        add(name, f"its error is routed, decided by {unit.decided_by}", ENTER, LEAVE)
    for source in filter(None, lowered.source_paths):
        add(source, f"its error is sent to {', '.join(lowered.units)}", SOURCE)
    for begin, inverse in lowered.begins.items():
        target = lowered.modules[inverse]
        add(begin, f"a block begins, decided by {getattr(target, 'decided_by', '')}", ENTER, LEAVE)
    for end in lowered.target_ends:
        add(end, "the last block that learns from targets ends at its input", ENTER)
    return marks


def _attached(lowered: LoweredGraph) -> dict[str, list[str]]:
    """Attributes that a module gets besides the feedback of its weights, by its path."""
    feedback = {
        (owner, name)
        for owner, weights in lowered.weights.items()
        for weight in weights
        for name in (weight.feedback, weight.learned)
    }
    attached: dict[str, list[str]] = {}
    for qualified_name in (*lowered.state, *lowered.modules):
        owner, _, name = qualified_name.rpartition(".")
        if (owner, name) not in feedback:
            attached.setdefault(owner, []).append(name)
    return attached


def _routes(lowered: LoweredGraph) -> Routes | None:
    if not lowered.units:
        return None
    deliveries = {
        (source.meta["source"], port.meta["unit"]): _delivery(source, port)
        for source in lowered.graph.find_nodes(op="call_function", target=broadcast)
        for port in source.args[1]
    }
    return Routes(dict(lowered.units), lowered.source_paths, deliveries)


def _delivery(source: fx.Node, port: fx.Node) -> Delivery:
    """Delivery of an error, from the arguments of the two ops."""
    _, _, targets, mean = source.args
    if port.target is label_port:
        return Delivery(LABEL, "", bool(targets), bool(mean))
    _, matrix, _, projection = port.args
    assert isinstance(matrix, fx.Node)
    return Delivery(str(projection), str(matrix.target), bool(targets), bool(mean))


def _targets(lowered: LoweredGraph) -> Targets | None:
    if not lowered.begins and not lowered.target_ends:
        return None
    return Targets(dict(lowered.begins), tuple(lowered.target_ends))
