"""Lower local losses: each receiver learns from a classifier of its own, which is sent labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import fx

from fxbio.errors import PolicyError
from fxbio.lowering.deliveries import Deliveries, insert_port
from fxbio.lowering.lowered_graph import LoweredGraph, Receiver
from fxbio.lowering.receiver_info import receiver_info
from fxbio.ops.error_port import LABEL
from fxbio.ops.functional import label_port
from fxbio.passes.graph_pass import Pass, PassResult, Program, require_routing
from fxbio.passes.registry import register_pass
from fxbio.rules import LocalRule
from fxbio.rules.decoupled_greedy import classify
from fxbio.rules.routed_rule import ReceiverInfo
from fxbio.rules.seeding import feedback_generator
from fxbio.runtime.binding import Delivery
from fxbio.semantics.error_routing import Head

__all__ = ["LowerLocal"]


@register_pass("lower-local")
@dataclass(frozen=True)
class LowerLocal(Pass):
    """``z = classify(h); p = ops.label_port(z)`` at each receiver; ``ops.broadcast(y, [p, …])``."""

    def requires(self, program: Program) -> None:
        require_routing(program, "local", self)

    def run(self, program: Program) -> PassResult:
        routing, lowered = program.routing, program.lowered
        heads = _Heads(lowered, program.planned().seed)
        table: dict[tuple[str, str], Delivery] = {}
        if routing is None or not program.planned().rewritten("local"):
            lowered.drop_sources()
            return PassResult(False, "no local loss")
        for each in routing.routed:
            rule = each.rule
            if not isinstance(rule, LocalRule):
                continue
            for source in routing.served(each):
                heads.add(rule, receiver_info(each, source, routing.found))
                table[source, each.unit.name] = Delivery(LABEL, "", True, rule.mean_loss)

        def port(receiver: Receiver, delivery: Delivery) -> fx.Node:
            head = lowered.units[receiver.unit].head
            assert head is not None
            logits = insert_port(lowered, receiver, classify, *heads.operands(head))
            behind = replace(receiver, node=logits)
            return insert_port(lowered, behind, label_port, receiver.unit, delivery.mean)

        Deliveries(lowered, table, port).lower()
        lowered.drop_sources()
        return PassResult(True, f"{len(table)} classifiers")

    def ensures(self, program: Program) -> None:
        program.lowered.graph.lint()


@dataclass
class _Heads:
    """The classifiers of units, their parameters among the state of the lowered graph."""

    lowered: LoweredGraph
    seed: int
    layers: list[tuple[str, str]] = field(default_factory=list)

    def add(self, rule: LocalRule, info: ReceiverInfo) -> None:
        """Make the classifier of a unit.

        Raises:
            PolicyError: when it has one already, for another source.
        """
        unit = self.lowered.units[info.name]
        if unit.head is not None:
            raise PolicyError(
                f"'{info.name}' learns from one classifier, and has two sources",
                notes=[f"decided by {unit.decided_by}"],
                help="name one module as its 'source', or none for the output of the model",
            )
        names = []
        for layer in rule.layers(info, feedback_generator(self.seed, rule.drawn_by(info))):
            number = len(self.layers)
            pair = (f"fxbio_head_{number}_weight", f"fxbio_head_{number}_bias")
            self.lowered.state |= {pair[0]: layer.weight, pair[1]: layer.bias}
            self.layers.append(pair)
            names.append(pair)
        head = Head(info.channel_dim, rule.pooled(info), tuple(names))
        self.lowered.units[info.name] = replace(unit, head=head)

    def operands(self, head: Head) -> Sequence[object]:
        """Arguments of ``classify`` behind the receiver."""
        layers = [tuple(self.lowered.attribute(n) for n in pair) for pair in head.layers]
        return head.channel_dim, head.pooled, layers
