"""Rows and lanes: where in a grid each node of a picture stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx

if TYPE_CHECKING:
    from fxbio.viz.picture import Picture

__all__ = ["Cell", "grid_of"]


@dataclass(frozen=True)
class Cell:
    """A place in the grid; the main chain is lane 0, and the input is row 0."""

    row: int
    lane: int


def grid_of(picture: Picture) -> dict[str, Cell]:
    """Give each node a cell of its own, the longest chain straight and branches beside it.

    Nodes stand below all that feeds them; off the main chain, as close above what they feed as
    can be. Nodes without any edge come last, one below the other.
    """
    flow = _forward(picture)
    lone = [node for node in flow if not flow.degree(node)]
    flow.remove_nodes_from(lone)
    chains = _chains(flow)
    rows = _rows(flow, chains[0] if chains else [])
    cells = _lanes(chains, rows)
    below = max(rows.values(), default=-1) + 1
    return cells | {node: Cell(below + place, 0) for place, node in enumerate(lone)}


def _forward(picture: Picture) -> nx.DiGraph:
    """The forward path without what runs against the order of execution."""
    order = {node.id: place for place, node in enumerate(picture.nodes)}
    flow = nx.DiGraph()
    flow.add_nodes_from(order)
    for edge in picture.edges:
        if edge.kind == "forward" and order[edge.source] < order[edge.target]:
            flow.add_edge(edge.source, edge.target)
    return flow


def _rows(flow: nx.DiGraph, main: list[str]) -> dict[str, int]:
    generations = nx.topological_generations(flow)
    rows = {node: row for row, nodes in enumerate(generations) for node in nodes}
    straight = set(main)
    for node in reversed(list(nx.topological_sort(flow))):
        following = [rows[after] for after in flow.successors(node)]
        if following and node not in straight:
            rows[node] = min(following) - 1
    return rows


def _chains(flow: nx.DiGraph) -> list[list[str]]:
    """The nodes in chains, the longest taken first from what the ones before have left."""
    rest = flow.copy()
    chains: list[list[str]] = []
    while rest:
        chain = nx.dag_longest_path(rest)
        chains.append(chain)
        rest.remove_nodes_from(chain)
    return chains


def _lanes(chains: Iterable[list[str]], rows: dict[str, int]) -> dict[str, Cell]:
    """Each chain in the first lane that is free from its first row to its last."""
    taken: list[set[int]] = []
    cells: dict[str, Cell] = {}
    for chain in chains:
        span = set(range(rows[chain[0]], rows[chain[-1]] + 1))
        lane = next((i for i, rest in enumerate(taken) if i and rest.isdisjoint(span)), len(taken))
        taken[lane:] = [*taken[lane:], set()] if lane == len(taken) else taken[lane:]
        taken[lane] |= span
        cells |= {node: Cell(rows[node], lane) for node in chain}
    return cells
