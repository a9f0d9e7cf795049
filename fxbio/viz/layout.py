"""Positions: the rectangle of every node and passage, and the line of every edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fxbio.viz.grid import Cell, grid_of
from fxbio.viz.ways import Way, Ways, find_ways

if TYPE_CHECKING:
    from fxbio.viz.picture import Edge, Node, Picture

__all__ = ["BOX", "PASSAGE", "Layout", "Point", "Rect", "lay_out"]

Point = tuple[float, float]

BOX, PASSAGE = 258.0, 138.0
"""Widths of a box and of a passage."""
_BETWEEN = 40.0
"""From a box to its passages; the arrows of weight transport are drawn there."""
_BOX_HEIGHT, _PASSAGE_HEIGHT, _PASSAGE_GAP = 46.0, 36.0, 6.0
_JOIN, _DOT = 20.0, 8.0
_TRACK, _LEVEL = 12.0, 9.0
"""Distances of parallel lines, upright and level."""
_ROW_GAP, _LANE_GAP, _TURN = 28.0, 34.0, 13.0


@dataclass(frozen=True)
class Rect:
    """Left, top, width, height."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Its lower side."""
        return self.y + self.height

    @property
    def middle(self) -> Point:
        """Its centre."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass
class Layout:
    """Positions of everything; the origin is the upper left corner of the drawing."""

    nodes: dict[str, Rect] = field(default_factory=dict)
    passages: dict[str, tuple[Rect, ...]] = field(default_factory=dict)
    """By node, one for each passage; of the output the place of the error, of a join a dot."""
    lines: dict[Edge, tuple[Point, ...]] = field(default_factory=dict)
    width: float = 0.0
    height: float = 0.0


def lay_out(picture: Picture) -> Layout:
    """Place the nodes of a picture in rows and lanes, and lead its edges between them."""
    cells = grid_of(picture)
    return _Drafting(picture, cells, find_ways(picture, cells)).layout


class _Drafting:
    """The numbers that all positions are computed from."""

    def __init__(self, picture: Picture, cells: Mapping[str, Cell], ways: Ways) -> None:
        self._picture, self._cells, self._ways = picture, cells, ways
        self.layout = Layout()
        self._place_lanes()
        self._place_rows()
        for node in picture.nodes:
            self._place(node)
        for edge in picture.edges:
            route = self._direct if edge.kind == "direct" else self._routed
            self.layout.lines[edge] = _straightened(route(edge, ways.of[edge]))

    def _place_lanes(self) -> None:
        """Left side of the boxes of each lane."""
        self._lanes: list[float] = []
        x = 0.0
        for lane in range(max((c.lane for c in self._cells.values()), default=0) + 1):
            left = len(self._ways.tracks.get(("forward", lane), ())) * _TRACK
            right = len(self._ways.tracks.get(("feedback", lane), ())) * _TRACK
            self._lanes.append(x + left)
            x += left + BOX + _BETWEEN + PASSAGE + right + _LANE_GAP
        self._bus = x - _LANE_GAP / 2
        self.layout.width = (
            x - _LANE_GAP + (len(self._ways.buses) + 1) * _TRACK * bool(self._ways.buses)
        )

    def _place_rows(self) -> None:
        """Top and bottom of each row."""
        heights: dict[int, float] = {}
        for node in self._picture.nodes:
            row = self._cells[node.id].row
            heights[row] = max(heights.get(row, 0.0), _height(node))
        self._tops: list[float] = []
        self._bottoms: list[float] = []
        y = 0.0
        for row in range(max(heights, default=-1) + 1):
            self._tops.append(y)
            self._bottoms.append(y + heights.get(row, 0.0))
            levels = len(self._ways.levels.get(row, ()))
            y = self._bottoms[-1] + _ROW_GAP + max(0, levels - 1) * _LEVEL
        used = len(self._ways.levels.get(len(self._bottoms) - 1, ()))
        self.layout.height = (self._bottoms[-1] if self._bottoms else 0.0) + used * _LEVEL + _TURN

    def _place(self, node: Node) -> None:
        cell = self._cells[node.id]
        x = self._lanes[cell.lane]
        y = (self._tops[cell.row] + self._bottoms[cell.row]) / 2
        height = _height(node)
        left = x + BOX + _BETWEEN
        if node.kind == "join":
            self.layout.nodes[node.id] = _around(x + BOX / 2, y, _JOIN)
            self.layout.passages[node.id] = (_around(left + PASSAGE / 2, y, _DOT),)
            return
        self.layout.nodes[node.id] = Rect(x, y - height / 2, BOX, height)
        count = 1 if node.kind == "output" else len(node.passages)
        top = y - _stack_height(count) / 2
        step = _PASSAGE_HEIGHT + _PASSAGE_GAP
        self.layout.passages[node.id] = tuple(
            Rect(left, top + place * step, PASSAGE, _PASSAGE_HEIGHT) for place in range(count)
        )

    def _routed(self, edge: Edge, way: Way) -> list[Point]:
        """The line of an edge between two ends, as its way says."""
        forward = edge.kind == "forward"
        first, second = (edge.source, edge.target) if forward else (edge.target, edge.source)
        start, end = self._lower_end(first, forward), self._upper_end(second, forward)
        rows = self._cells[first].row, self._cells[second].row - 1
        points = [start]
        x = start[0]
        if way.leave is not None:
            y = self._level(rows[0], way.leave)
            points.append((x, y))
            x = end[0] if way.track is None else self._track(edge.kind, way)
            points.append((x, y))
        if way.enter is not None:
            y = self._level(rows[1], way.enter)
            points += [(x, y), (end[0], y)]
        points.append(end)
        return points if forward else points[::-1]

    def _direct(self, edge: Edge, way: Way) -> list[Point]:
        """From the source to its bus and up to the receiver."""
        bus = self._bus + self._ways.buses[edge.source] * _TRACK
        passage = _receiving(self._picture.node(edge.target), edge)
        source = self.layout.passages[edge.source][-1]
        target = self.layout.passages[edge.target][passage]
        points = self._aside(source, edge.source, way.leave, bus)
        return points + self._aside(target, edge.target, way.enter, bus)[::-1]

    def _aside(self, rect: Rect, id: str, level: int | None, bus: float) -> list[Point]:
        x, y = rect.right, rect.middle[1]
        if level is None:
            return [(x, y), (bus, y)]
        below = self._level(self._cells[id].row, level)
        return [(x, y), (x + _TRACK / 2, y), (x + _TRACK / 2, below), (bus, below)]

    def _lower_end(self, id: str, forward: bool) -> Point:
        rect = self.layout.nodes[id] if forward else self.layout.passages[id][-1]
        return rect.middle[0], rect.bottom

    def _upper_end(self, id: str, forward: bool) -> Point:
        rect = self.layout.nodes[id] if forward else self.layout.passages[id][0]
        return rect.middle[0], rect.y

    def _level(self, gap: int, number: int) -> float:
        return self._bottoms[gap] + _TURN + number * _LEVEL

    def _track(self, kind: str, way: Way) -> float:
        assert way.lane is not None
        assert way.track is not None
        x = self._lanes[way.lane]
        if kind == "forward":
            return x - (way.track + 1) * _TRACK
        return x + BOX + _BETWEEN + PASSAGE + (way.track + 1) * _TRACK


def _height(node: Node) -> float:
    if node.kind == "join":
        return _JOIN
    return max(_BOX_HEIGHT, _stack_height(len(node.passages)))


def _stack_height(passages: int) -> float:
    return passages * (_PASSAGE_HEIGHT + _PASSAGE_GAP) - _PASSAGE_GAP


def _around(x: float, y: float, size: float) -> Rect:
    return Rect(x - size / 2, y - size / 2, size, size)


def _receiving(node: Node, edge: Edge) -> int:
    """Passage of a node that gets the error of an edge; a join has one place for it."""
    keys = [(passage.rule, passage.carrier) for passage in node.passages]
    return keys.index((edge.rule, edge.carrier)) if keys else 0


def _straightened(points: list[Point]) -> tuple[Point, ...]:
    """Without points that lie on the line between their neighbours."""
    kept = points[:1]
    for place, point in enumerate(points[1:], 1):
        after = points[place + 1] if place + 1 < len(points) else None
        before = kept[-1]
        if point == before:
            continue
        level = after is not None and before[1] == point[1] == after[1]
        upright = after is not None and before[0] == point[0] == after[0]
        if not level and not upright:
            kept.append(point)
    return tuple(kept)
