"""Errors on their way from sources to receivers: ports and broadcasts in the lowered graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx

from fxbio.lowering.lowered_graph import LoweredGraph, Receiver, Source
from fxbio.ops.functional import broadcast
from fxbio.runtime.binding import Delivery

__all__ = ["Deliveries", "insert_port"]

MakePort = Callable[[Receiver, Delivery], fx.Node]
"""Writes the port of a receiver behind it."""


@dataclass
class Deliveries:
    """Errors to send, by the names of source and receiver, for one family of rules."""

    lowered: LoweredGraph
    table: dict[tuple[str, str], Delivery]
    make_port: MakePort

    def lower(self) -> int:
        """Write ports and broadcasts into the graph; the number of ports."""
        ports: dict[tuple[fx.Node, str, str], fx.Node] = {}
        for source in self.lowered.sources:
            self._lower_source(source, ports)
        return len(ports)

    def _lower_source(self, source: Source, ports: dict[tuple[fx.Node, str, str], fx.Node]) -> None:
        groups: dict[tuple[bool, bool], list[fx.Node]] = {}
        for receiver in source.received:
            delivery = self.table.get((source.name, receiver.unit))
            if delivery is None or not receiver.node.meta.get("requires_grad", True):
                continue
            key = (receiver.node, receiver.unit, source.name)
            if key not in ports:
                ports[key] = self.make_port(receiver, delivery)
            groups.setdefault((delivery.targets, delivery.mean), []).append(ports[key])
        for (targets, mean), found in groups.items():
            self._send(source, found, targets, mean)

    def _send(self, source: Source, ports: list[fx.Node], targets: bool, mean: bool) -> None:
        output = source.node.args[0]
        assert isinstance(output, fx.Node)
        operands = (output, ports, targets, mean)
        sent = self.lowered.insert_before(
            source.node, broadcast, operands, output, source=source.name
        )
        source.node.args = (sent, *source.node.args[1:])


def insert_port(lowered: LoweredGraph, receiver: Receiver, function: Any, *args: Any) -> fx.Node:
    """A node behind a receiver, for an error that enters there; names are those of tensors."""
    return lowered.insert_before(
        receiver.node.next, function, (receiver.node, *args), receiver.node, unit=receiver.unit
    )
