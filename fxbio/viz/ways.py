"""Ways of edges through the grid, before anything has coordinates.

Boxes stand in the cells; edges run level in the gaps below rows, upright through cells that are
empty, and else in tracks beside a lane. So no edge crosses a box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fxbio.viz.grid import Cell

if TYPE_CHECKING:
    from fxbio.viz.picture import Edge, Picture

__all__ = ["Way", "Ways", "find_ways"]


@dataclass(frozen=True)
class Way:
    """Of an edge between two cells, told from the end that comes first in the forward pass."""

    leave: int | None = None
    """Number of the level in the gap below the first end where it turns; ``None`` for straight."""
    lane: int | None = None
    """Lane that it is upright in, in which ``track`` counts the tracks."""
    track: int | None = None
    """``None`` for the way through the cells themselves."""
    enter: int | None = None
    """Number of the level in the gap above the second end where it turns again."""


@dataclass
class Ways:
    """The ways of all edges, and how much room they take."""

    of: dict[Edge, Way] = field(default_factory=dict)
    levels: dict[int, dict[object, int]] = field(default_factory=dict)
    """Level lines in the gap below each row, by what they are for."""
    tracks: dict[tuple[str, int], list[dict[object, range]]] = field(default_factory=dict)
    """Upright lines beside each lane, by kind: who runs from which gap to which."""
    buses: dict[str, int] = field(default_factory=dict)
    """Upright lines beside all lanes, by the source of the errors that run there."""

    def level(self, gap: int, key: object) -> int:
        """Number of the level line for a key, which may be new."""
        lines = self.levels.setdefault(gap, {})
        return lines.setdefault(key, len(lines))

    def track(self, side: tuple[str, int], key: object, span: range) -> int:
        """Number of a track that is free along a span, or that the key has there already."""
        tracks = self.tracks.setdefault(side, [])
        for number, users in enumerate(tracks):
            others = (taken for user, taken in users.items() if user != key)
            if not any(taken.start < span.stop and span.start < taken.stop for taken in others):
                mine = users.get(key, span)
                users[key] = range(min(mine.start, span.start), max(mine.stop, span.stop))
                return number
        tracks.append({key: span})
        return len(tracks) - 1


def find_ways(picture: Picture, cells: Mapping[str, Cell]) -> Ways:
    """Lead every edge around the boxes."""
    ways = Ways()
    occupied = {(cell.row, cell.lane) for cell in cells.values()}
    for edge in picture.edges:
        if edge.kind == "direct":
            ways.of[edge] = _bus(ways, edge, cells, occupied)
            continue
        ends = (edge.source, edge.target) if edge.kind == "forward" else (edge.target, edge.source)
        ways.of[edge] = _way(ways, edge.kind, ends, cells, occupied)
    return ways


def _way(
    ways: Ways,
    kind: str,
    ends: tuple[str, str],
    cells: Mapping[str, Cell],
    occupied: set[tuple[int, int]],
) -> Way:
    first, second = cells[ends[0]], cells[ends[1]]
    between = range(first.row + 1, second.row)
    out, into = (kind, "from", ends[0]), (kind, "to", ends[1])
    if first.row < second.row:
        if not any((row, second.lane) in occupied for row in between):
            if first.lane == second.lane:
                return Way()
            return Way(leave=ways.level(first.row, out), lane=second.lane)
        if not any((row, first.lane) in occupied for row in between):
            return Way(lane=first.lane, enter=ways.level(second.row - 1, into))
    span = range(*sorted((first.row, second.row)))
    return Way(
        leave=ways.level(first.row, out),
        lane=second.lane,
        track=ways.track((kind, second.lane), ends[0], span),
        enter=ways.level(second.row - 1, into),
    )


def _bus(ways: Ways, edge: Edge, cells: Mapping[str, Cell], occupied: set[tuple[int, int]]) -> Way:
    """From the source to the bus and from the bus to the receiver, around what stands between."""
    ways.buses.setdefault(edge.source, len(ways.buses))

    def turn(id: str) -> int | None:
        cell = cells[id]
        if not any(row == cell.row and lane > cell.lane for row, lane in occupied):
            return None
        return ways.level(cell.row, ("direct", id))

    return Way(leave=turn(edge.source), enter=turn(edge.target))
