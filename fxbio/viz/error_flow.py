"""The way of errors back through a captured pass, under the rules of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property

from torch import fx

from fxbio.globs import glob_matches
from fxbio.graph.model_graph import ModelGraph
from fxbio.graph.partition import within
from fxbio.lowering.lowered_graph import LoweredGraph
from fxbio.ops.functional import source as source_op
from fxbio.ops.functional import stop
from fxbio.rules import FeedbackRule, Rule
from fxbio.rules.routed_rule import RoutedRule
from fxbio.site import Site
from fxbio.viz.module_blocks import path_of, with_parents

__all__ = ["ErrorFlow"]


@dataclass
class ErrorFlow:
    """Errors sent back between the nodes of a pass, as the lowered graph says."""

    flow: tuple[fx.Node, ...]
    """The captured nodes that carry activations, in order of execution."""
    lowered: LoweredGraph
    """With its errors routed."""
    rules: Mapping[str, Rule]
    """Of the sites, by name."""
    weighted: Set[str]
    """Paths of the leaf layers that have parameters."""
    passes: list[tuple[fx.Node, fx.Node]] = field(default_factory=list)
    """From a node to one that it reads."""
    reached: set[fx.Node] = field(default_factory=set)
    """Nodes to which an error comes, from their readers or from elsewhere."""
    returned: list[fx.Node] = field(default_factory=list)
    """Nodes whose values the model returns: the loss sends them its error."""

    def __post_init__(self) -> None:
        members = set(self.flow)
        arrivals = {r.node for source in self.lowered.sources for r in source.received}
        self.reached |= {self._captured[node] for node in arrivals if node in self._captured}
        for node in reversed(self.flow):
            if any(user.op == "output" for user in node.users):
                self.returned.append(node)
                self.reached.add(node)
            if node not in self.reached or not self._sends(node):
                continue
            for source in self._read_by(node):
                if source in members:
                    self.passes.append((node, source))
                    self.reached.add(source)

    @property
    def graph(self) -> ModelGraph:
        """The captured pass."""
        return self.lowered.captured

    @cached_property
    def _captured(self) -> dict[fx.Node, fx.Node]:
        """The captured node of each that was copied."""
        return dict(zip(self.lowered.order, self.graph.order, strict=True))

    @cached_property
    def _lowered(self) -> dict[fx.Node, fx.Node]:
        return {captured: node for node, captured in self._captured.items()}

    def _read_by(self, node: fx.Node) -> Iterator[fx.Node]:
        """The captured nodes that errors of a node go to; none goes through a stop."""
        for source in self._lowered[node].all_input_nodes:
            if source.target is source_op:  # an identity
                source = source.all_input_nodes[0]
            if source in self._captured and source in self._learning:
                yield self._captured[source]

    @cached_property
    def _learning(self) -> set[fx.Node]:
        """Lowered nodes below which something learns, no stop being between."""
        found: set[fx.Node] = set()
        for node in self.lowered.graph.nodes:
            if node.target is stop or node.op in ("placeholder", "output"):
                continue
            own = node.op == "call_module" and str(node.target) in self.weighted
            if own or node.meta.get("parameter") or not found.isdisjoint(node.all_input_nodes):
                found.add(node)
        return found

    @cached_property
    def sites(self) -> dict[fx.Node, Site]:
        """The site that each node is, if it is one."""
        members = set(self.flow)
        named = ((self.graph.nodes.get(site.name), site) for site in self.graph.sites)
        return {node: site for node, site in named if node is not None and node in members}

    @cached_property
    def last(self) -> set[fx.Node]:
        """Sites behind which no other layer applies a weight."""
        leading: set[fx.Node] = set()
        for node in reversed(self.flow):
            if any(user in leading or self._is_layer(user) for user in node.users):
                leading.add(node)
        return {node for node in self.sites if node not in leading}

    @cached_property
    def routed(self) -> dict[fx.Node, RoutedRule]:
        """Sites whose error comes from elsewhere: from a source further on or a classifier."""
        ruled = ((node, self.rules[site.name]) for node, site in self.sites.items())
        exact = {unit.name for unit in self.lowered.units.values() if unit.point == "exact"}
        return {
            node: rule
            for node, rule in ruled
            if isinstance(rule, RoutedRule) and self.sites[node].owner not in exact
        }

    @cached_property
    def receivers(self) -> dict[fx.Node, fx.Node]:
        """Arrivals of such errors, with a site that learns from them there.

        That is the site itself, or the end of the block that it is in.
        """
        found: dict[fx.Node, fx.Node] = {}
        for node, rule in self.routed.items():
            if rule.at != "block":
                found[node] = node
                continue
            for end in self._ends(_block_of(self.sites[node], rule)):
                found[self._first_join_or_site(end)] = node
        return found

    def sources_of(self, site: fx.Node) -> list[fx.Node]:
        """The sites whose error a routed one gets, none where it is that of the model's output."""
        found: dict[str, fx.Node] = {}
        for glob in self.routed[site].source:
            for node, other in self.sites.items():
                for path in with_parents(other.path):
                    if glob_matches(glob, path):
                        found[path] = node
        return list(dict.fromkeys(found.values()))

    def _ends(self, module: str) -> list[fx.Node]:
        """The nodes of a module that others read."""
        inside = {node for node in self.flow if within(path_of(node), module)}
        return [node for node in self.flow if node in inside and not inside.issuperset(node.users)]

    def _first_join_or_site(self, end: fx.Node) -> fx.Node:
        """Back from a node to where the last tensors meet, or to the last site."""
        members = set(self.flow)
        while not self._is_layer(end):
            before = [node for node in end.all_input_nodes if node in members]
            if len(before) != 1:
                break
            end = before[0]
        return end

    def _is_layer(self, node: fx.Node) -> bool:
        return node in self.sites and self.sites[node].multiplies

    def _sends(self, node: fx.Node) -> bool:
        rule = self.rules[self.sites[node].name] if node in self.sites else None
        return not isinstance(rule, FeedbackRule) or rule.passes_error


def _block_of(site: Site, rule: RoutedRule) -> str:
    """The outermost module around a site that the rule calls a block; the site's own without."""
    around = (path for path in with_parents(site.path) if glob_matches(rule.block, path))
    return next(around, site.path)
