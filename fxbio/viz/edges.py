"""The arrows of a picture: activations, errors, and errors that come straight from a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fxbio.rules import BroadcastRule
from fxbio.viz.error_flow import ErrorFlow
from fxbio.viz.picture import Edge, Node
from fxbio.viz.wiring import INPUT, OUTPUT, Wiring

__all__ = ["draw_edges"]

_NO_RULE = ("", "")


def draw_edges(
    wiring: Wiring, errors: ErrorFlow, ids: Mapping[str, str], nodes: Mapping[str, Node]
) -> Iterator[Edge]:
    """All edges, each once, in order of execution of what they belong to.

    Args:
        wiring: the forward path.
        errors: the way of errors.
        ids: of the nodes, by vertex of the wiring.
        nodes: by vertex.
    """
    order = {vertex: place for place, vertex in enumerate(ids)}
    for vertex in ids:
        for target in sorted(wiring.graph.successors(vertex), key=order.__getitem__):
            yield Edge(ids[vertex], ids[target], "forward")
    arriving: dict[str, set[tuple[str, str]]] = {}
    for sender, receiver in dict.fromkeys(_sent(wiring, errors)):
        through = arriving.get(sender, set())
        passage = _sending(nodes[sender]) or (
            next(iter(through)) if len(through) == 1 else _NO_RULE
        )
        arriving.setdefault(receiver, set()).add(passage)
        yield Edge(ids[sender], ids[receiver], "feedback", *passage)
    for sender, receiver, learner in dict.fromkeys(_broadcast(wiring, errors)):
        passage = _receiving(nodes[learner])
        yield Edge(ids[sender], ids[receiver], "direct", *passage)


def _sent(wiring: Wiring, errors: ErrorFlow) -> Iterator[tuple[str, str]]:
    for node in errors.returned:
        vertex = wiring.vertex_of(node)
        if vertex not in (OUTPUT, INPUT):
            yield OUTPUT, vertex
    for node, source in errors.passes:
        sender, receiver = wiring.vertex_of(node), wiring.vertex_of(source)
        if sender != receiver and receiver != INPUT:
            yield sender, receiver


def _broadcast(wiring: Wiring, errors: ErrorFlow) -> Iterator[tuple[str, str, str]]:
    """Source, where its error arrives, and a vertex that learns from it."""
    for node, site in errors.receivers.items():
        if not isinstance(errors.routed[site], BroadcastRule):
            continue
        receiver, learner = wiring.vertex_of(node), wiring.vertex_of(site)
        sources = [wiring.vertex_of(source) for source in errors.sources_of(site)]
        for source in sources or [OUTPUT]:
            if source != receiver:
                yield source, receiver, learner


def _sending(node: Node) -> tuple[str, str] | None:
    """Rule and carrier of what a box sends back: those of its first sites, which send last.

    A join sends what it gets, so nothing of its own.
    """
    sending = [p for p in node.passages if p.used]
    return (sending[0].rule, sending[0].carrier) if sending else None


def _receiving(node: Node) -> tuple[str, str]:
    routed = [p for p in node.passages if p.carrier.startswith(("B ·", "B, "))]
    return (routed[0].rule, routed[0].carrier) if routed else _NO_RULE
