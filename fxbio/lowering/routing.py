"""Errors routed in the lowered graph: where the sequential path is cut, who receives, who sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import fx, nn

from fxbio.errors import PolicyError
from fxbio.globs import glob_matches, suggest_paths
from fxbio.lowering.graph_router import GraphRouter, Receivers, find_receivers
from fxbio.lowering.lowered_graph import LoweredGraph, Receiver, Source
from fxbio.lowering.receiver_info import refused
from fxbio.lowering.units import RoutedUnit, routed_units
from fxbio.ops.functional import source, stop
from fxbio.policy.plan import Plan
from fxbio.semantics.error_routing import Flow, Unit, check_single_output

__all__ = ["Routing", "route_errors"]


@dataclass(frozen=True)
class Routing:
    """The routed units of a plan, and what the graph says about them."""

    routed: tuple[RoutedUnit, ...]
    sources: Mapping[str, tuple[str, ...]]
    """Sources that each unit asks for, by its name."""
    found: Receivers
    exact: frozenset[str]
    """Units that no layer stands between and the source: its error reaches them by itself."""

    def served(self, each: RoutedUnit) -> list[str]:
        """The sources that send an error to a unit.

        Raises:
            PolicyError: when an error was asked for and none can be sent.
        """
        name, sources = each.unit.name, self.sources[each.unit.name]
        served = [source for source in sources if (source, name) in self.found.above]
        elsewhere = self.exact | set(self.found.joined) | self.found.without_history
        if not served and name not in elsewhere and each.site.calls:
            raise refused(each, sources[0], self._problem(name, sources[0]))
        return served

    def _problem(self, name: str, source: str) -> str:
        if source not in self.found.sources:
            runs = f"'{source}' does not run, or" if source else "the model"
            return f"{runs} returns no tensor of real numbers"
        if name not in self.found.receivers:
            return f"what '{name}' puts out is followed to no nonlinearity, no layer and no source"
        what = f"'{source}'" if source else "the output"
        return f"{what} is not computed from what '{name}' puts out"


def route_errors(model: nn.Module, lowered: LoweredGraph, plan: Plan) -> Routing:
    """Cut the lowered graph where errors are routed, and note receivers and sources.

    Raises:
        PolicyError: when there is no such source, when it is not computed from what should
            receive from it, or when a layer's error cannot be routed.
    """
    routed = tuple(routed_units(model, plan))
    sources = {each.unit.name: _sources(model, each) for each in routed}
    paths = tuple(sorted(set().union(*sources.values())))
    units = {each.unit.name: each.unit for each in routed}
    found = find_receivers(model, lowered, units, paths)
    exact = frozenset(found.exact)
    if exact:
        units |= {name: replace(units[name], point="exact") for name in exact}
        found = find_receivers(model, lowered, units, paths)
    routing = Routing(routed, sources, found, exact)
    served = {each.unit.name for each in routed if routing.served(each)}
    for name, first in found.joined.items():
        if name not in served:
            units[name] = replace(units[name], served_by=first)
    if "" in paths:
        outputs = [n for n in lowered.output.all_input_nodes if n.meta["dtype"].is_floating_point]
        check_single_output(units, lowered.captured.output_type, len(outputs))
    lowered.units, lowered.source_paths = units, paths
    _Router(model, lowered, units, paths).rewrite()
    return routing


def _sources(model: nn.Module, each: RoutedUnit) -> tuple[str, ...]:
    """Paths of the modules that a unit gets errors from; empty for the model's output."""
    modules = [path for path, _ in model.named_modules() if path]
    paths: list[str] = [] if each.rule.source else [""]
    for glob in each.rule.source:
        matching = [path for path in modules if glob_matches(glob, path)]
        if not matching:
            raise PolicyError(
                f"no module is called '{glob}', the source of the error of '{each.unit.name}'",
                notes=[f"decided by {each.unit.decided_by}", *suggest_paths(glob, modules)],
                help="name modules whose outputs the loss is computed from",
            )
        paths += matching
    return tuple(dict.fromkeys(paths))


class _Router(GraphRouter):
    """Inserts a stop wherever the routing cuts, and an identity at each source."""

    def __init__(self, model: nn.Module, lowered: LoweredGraph, *args: Any) -> None:
        super().__init__(model, lowered, *args)
        self._lowered = lowered
        self._at: fx.Node = lowered.output
        self._received: list[Receiver] = []

    def rewrite(self) -> None:
        """Rewrite the graph, the outputs of module calls and the output of the model."""
        self.route()
        output = self._lowered.output
        self._at = output
        returned = self.replaced(output.args, self._present)
        if "" in self._sources:
            returned = self.replaced(returned, self._sent)
        output.args = returned
        for index, call in enumerate(self._lowered.calls):
            if call.parent is None:
                self.note_output(index, returned[0])

    def at_position(self, node: fx.Node | None) -> None:
        self._at = self._lowered.output if node is None else node

    def note_output(self, index: int, output: Any) -> None:
        self._lowered.calls[index] = replace(self._lowered.calls[index], output=output)

    def stop(self, value: fx.Node, flows: list[Flow]) -> fx.Node:
        return self._lowered.insert_before(self._at, stop, (value,), value, requires_grad=False)

    def note_receiver(self, unit: Unit, value: fx.Node) -> None:
        self._received.append(Receiver(unit.name, value))

    def at_source(self, node: fx.Node, name: str) -> fx.Node:
        sent = self._lowered.insert_before(self._at, source, (node, name), node)
        self._lowered.sources.append(Source(name, sent, tuple(self._received)))
        return sent

    def _sent(self, node: fx.Node) -> fx.Node:
        return self.at_source(node, "") if self.is_followed(node) else node
