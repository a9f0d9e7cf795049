"""The way of errors back through a captured pass, under the rules of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import fx

from fxbio.globs import glob_matches
from fxbio.graph.grouping import within
from fxbio.graph.model_graph import ModelGraph
from fxbio.graph.site import Site
from fxbio.pictures.module_blocks import path_of, with_parents
from fxbio.rules import Rule
from fxbio.rules.broadcast import BroadcastRule

__all__ = ["ErrorFlow"]


@dataclass
class ErrorFlow:
    """What is sent back between the nodes of a pass, from the output to where it ends."""

    flow: tuple[fx.Node, ...]
    """The nodes that carry activations, in order of execution."""
    graph: ModelGraph
    rules: Mapping[str, Rule]
    """Of the sites, by name."""
    passes: list[tuple[fx.Node, fx.Node]] = field(default_factory=list)
    """From a node to one that it reads."""
    reached: set[fx.Node] = field(default_factory=set)
    """Nodes to which an error comes, from their readers or from elsewhere."""
    returned: list[fx.Node] = field(default_factory=list)
    """Nodes whose values the model returns: the loss sends them its error."""

    def __post_init__(self) -> None:
        members = set(self.flow)
        for node in reversed(self.flow):
            if any(user.op == "output" for user in node.users):
                self.returned.append(node)
                self.reached.add(node)
            if node in self._followed or node in self.receivers:
                self.reached.add(node)
            if node not in self.reached or not self._sends(node):
                continue
            for source in node.all_input_nodes:
                if source in members and self._is_sent(node, source):
                    self.passes.append((node, source))
                    self.reached.add(source)

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
    def routed(self) -> dict[fx.Node, BroadcastRule]:
        """Sites whose error comes from elsewhere: from a source further on or a classifier."""
        ruled = ((node, self.rules[site.name]) for node, site in self.sites.items())
        return {
            node: rule
            for node, rule in ruled
            if isinstance(rule, BroadcastRule) and (rule.at == "input" or node not in self.last)
        }

    @cached_property
    def receivers(self) -> dict[fx.Node, fx.Node]:
        """Where such errors arrive, with a site that learns from them there.

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

    @cached_property
    def _followed(self) -> dict[fx.Node, bool]:
        """What is computed from receivers up to the next layers: whether all of it is cut off."""
        followed: dict[fx.Node, bool] = {}
        for node in self.flow:
            rule = self.routed.get(self.receivers[node]) if node in self.receivers else None
            if rule is not None and rule.at != "input":
                followed[node] = rule.skip == "cut"
            elif not self._is_layer(node):
                before = [followed[n] for n in node.all_input_nodes if n in followed]
                followed |= {node: any(before)} if before else {}
        return followed

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
        return node in self.sites and self.sites[node].op != "norm"

    def _sends(self, node: fx.Node) -> bool:
        return node not in self.sites or self.rules[self.sites[node].name].passes_error

    def _is_sent(self, node: fx.Node, source: fx.Node) -> bool:
        if source not in self._followed:
            return True
        if self._followed[source]:
            return False
        return not (self._is_layer(node) and node in self.routed)


def _block_of(site: Site, rule: BroadcastRule) -> str:
    """The outermost module around a site that the rule calls a block; the site's own without."""
    around = (path for path in with_parents(site.path) if glob_matches(rule.block, path))
    return next(around, site.path)
