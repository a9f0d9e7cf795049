"""The captured model: one graph of the whole forward pass, its islands, and its sites."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from html import escape
from typing import Any

import networkx as nx
from torch import Tensor, fx

from fxbio.display import data_frame, html_table
from fxbio.graph.trace import ModuleCall
from fxbio.site import Origin, Site, Unreachable

__all__ = ["Island", "ModelGraph"]


@dataclass(frozen=True)
class Island:
    """A module whose forward is captured whole."""

    path: str
    """Path of the module; empty for the model itself."""
    graph: fx.Graph
    """Its forward: placeholders for its inputs, targets qualified from the model's root."""
    call: int = 0
    """Index of its first call among ``ModelGraph.calls``."""


@dataclass(frozen=True)
class ModelGraph:
    """Structure of one forward pass of a model, and the places where it applies weights.

    ``graph`` is the trace of the whole pass in order of execution, eager parts included. The
    islands are the parts of it that would run the same way on any input of these shapes.
    """

    name: str
    """Class of the model."""
    sites: tuple[Site, ...]
    """Uses of weights in order of execution; layers that the pass never called come last."""
    unreachable: tuple[Unreachable, ...]
    """Code that cannot be seen into or that depends on values, with the reason."""
    islands: tuple[Island, ...] = ()
    graph: fx.Graph = field(default_factory=fx.Graph)
    nodes: dict[str, fx.Node] = field(default_factory=dict)
    """Node of ``graph`` that executes each site, by the name of the site."""
    constants: dict[str, Tensor] = field(default_factory=dict)
    """Tensors that the graphs refer to and the model does not own."""
    calls: tuple[ModuleCall, ...] = ()
    """Calls of modules that are not leaves, with the interval of ``graph`` that each executed."""
    output_type: str = ""
    """Class name of what the pass returned."""
    buffers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Buffers that enter the computation of a site's weight, by the name of the site."""
    derivatives: tuple[Origin | None, ...] = ()
    """Where the forward takes derivatives itself."""

    @cached_property
    def order(self) -> tuple[fx.Node, ...]:
        """The nodes as they were captured, which the intervals of ``calls`` count."""
        return tuple(node for node in self.graph.nodes if node.op != "output")

    @property
    def digest(self) -> str:
        """SHA-256 of what policies can see: the sites and the unreachable parts."""
        seen = {
            "name": self.name,
            "sites": [
                [s.name, s.path, s.weight, s.sources, s.op, s.shape, s.groups] for s in self.sites
            ],
        }
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()

    def site(self, name: str) -> Site:
        """The site of that name.

        Raises:
            KeyError: if there is none.
        """
        for site in self.sites:
            if site.name == name:
                return site
        raise KeyError(name)

    def to_networkx(self) -> nx.DiGraph:
        """The dataflow of the whole pass: one vertex per fx node, ``site`` set where it is one.

        Vertices are node names with the attributes ``op``, ``target``, ``path`` and ``site``.
        """
        names = {node: site for site, node in self.nodes.items()}
        flow = nx.DiGraph()
        for node in self.graph.nodes:
            flow.add_node(
                node.name,
                op=node.op,
                target=str(node.target),
                path=node.meta.get("path", ""),
                site=names.get(node),
            )
            flow.add_edges_from((source.name, node.name) for source in node.all_input_nodes)
        return flow

    def between(self, sources: Iterable[str], targets: Iterable[str]) -> set[str]:
        """Names of the sites on any path of the dataflow from ``sources`` to ``targets``.

        Args:
            sources: names of sites; they are included if they lie on such a path.
            targets: names of sites, likewise.
        """
        after = self._reach([self.nodes[s] for s in sources if s in self.nodes], forward=True)
        before = self._reach([self.nodes[t] for t in targets if t in self.nodes], forward=False)
        return {name for name, node in self.nodes.items() if node in after and node in before}

    def _reach(self, start: list[fx.Node], *, forward: bool) -> set[fx.Node]:
        seen, queue = set(start), list(start)
        while queue:
            node = queue.pop()
            following = node.users if forward else node.all_input_nodes
            fresh = [n for n in following if n not in seen]
            seen.update(fresh)
            queue += fresh
        return seen

    def to_pandas(self) -> Any:
        """One row per site as a ``pandas.DataFrame``, a column for each field of ``Site``.

        Raises:
            ConfigError: when pandas is not installed.
        """
        return data_frame(asdict(site) for site in self.sites)

    def _repr_html_(self) -> str:
        columns = ("site", "op", "weight", "parameters", "depth", "type")
        rows = (
            (s.name, s.op, "×".join(map(str, s.shape)), f"{s.parameters:,}", s.depth, s.type)
            for s in self.sites
        )
        unreachable = "".join(
            f"<p>unreachable: {escape(part.path or 'the model itself')}: {escape(part.reason)}</p>"
            for part in self.unreachable
        )
        return html_table(f"{self.name} · {len(self.sites)} sites", columns, rows) + unreachable

    def to_dict(self) -> dict[str, Any]:
        """Sites, unreachable parts and islands as plain data, for JSON."""
        return {
            "model": self.name,
            "digest": self.digest,
            "sites": [asdict(site) for site in self.sites],
            "unreachable": [asdict(part) for part in self.unreachable],
            "islands": [island.path for island in self.islands],
        }
