"""Lower error broadcast: the error of a source is sent through a matrix to each receiver."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import fx

from fxbio.lowering.deliveries import Deliveries, insert_port
from fxbio.lowering.lowered_graph import LoweredGraph, Receiver
from fxbio.lowering.receiver_info import receiver_info
from fxbio.ops.functional import port as port_op
from fxbio.passes.graph_pass import Pass, PassResult, Program, require_routing
from fxbio.passes.registry import register_pass
from fxbio.rules import BroadcastRule
from fxbio.rules.routed_rule import ReceiverInfo
from fxbio.rules.seeding import feedback_generator
from fxbio.runtime.binding import Delivery

__all__ = ["LowerBroadcast"]


@register_pass("lower-broadcast")
@dataclass(frozen=True)
class LowerBroadcast(Pass):
    """``p = ops.port(h, B)`` at each receiver; ``ops.broadcast(y, [p, …])`` at the source."""

    def requires(self, program: Program) -> None:
        require_routing(program, "broadcast", self)

    def run(self, program: Program) -> PassResult:
        routing, lowered = program.routing, program.lowered
        if routing is None or not program.planned().rewritten("broadcast"):
            return PassResult(False, "no error is broadcast")
        matrices = _Matrices(lowered, program.planned().seed)
        table: dict[tuple[str, str], Delivery] = {}
        for each in routing.routed:
            rule = each.rule
            if not isinstance(rule, BroadcastRule):
                continue
            for source in routing.served(each):
                info = receiver_info(each, source, routing.found)
                table[source, each.unit.name] = matrices.delivery(rule, info)

        def port(receiver: Receiver, delivery: Delivery) -> fx.Node:
            matrix = lowered.attribute(delivery.matrix)
            named = (receiver.unit, delivery.projection)
            return insert_port(lowered, receiver, port_op, matrix, *named)

        Deliveries(lowered, table, port).lower()
        mebibytes = sum(lowered.state[name].nbytes for name in matrices.names.values()) / 2**20
        return PassResult(True, f"{len(table)} receivers, matrices of {mebibytes:.1f} MiB")


@dataclass
class _Matrices:
    """Feedback matrices of receivers, which may share one."""

    lowered: LoweredGraph
    seed: int
    names: dict[str, str] = field(default_factory=dict)
    """Attribute of the model by what a matrix is drawn from."""

    def delivery(self, rule: BroadcastRule, info: ReceiverInfo) -> Delivery:
        """Delivery of the error of one source to one receiver."""
        drawn_from = rule.drawn_by(info)
        key = f"{rule}:{drawn_from}"
        if key not in self.names:
            self.names[key] = f"fxbio_route_{len(self.names)}"
            matrix = rule.matrix(info, feedback_generator(self.seed, drawn_from))
            self.lowered.state[self.names[key]] = matrix
        projection = rule.carrier(info).spec()
        return Delivery(projection, self.names[key], rule.needs_labels, rule.mean_loss)
