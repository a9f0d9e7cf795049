"""Small multiples: a little plot for each cell of an axis, all on the same scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fxbio.study import plot_svg as svg
from fxbio.study.history import Points
from fxbio.study.ticks import ticks

__all__ = ["Panel", "small_multiples"]

_WIDTH, _HEIGHT, _GAP, _MARGIN = 150.0, 64.0, 14.0, 16.0
_TOP, _BOTTOM, _NUMBERS, _HEADING = 52.0, 28.0, 40.0, 20.0
_ABREAST = 5
"""Panels in a line, where there is one rule only."""
_LONGEST = 28
"""Letters of a name; longer ones lose their middle."""
_MOST = 32
"""Points of a curve: more are not seen at this size."""
_GROUND, _GRID, _BASE = "#f6f8fa", "#e1e5ea", "#8c959f"
_SIZE = 11.0


@dataclass(frozen=True)
class Panel:
    """What is shown of a cell."""

    unit: str
    rule: str
    curves: Sequence[Points]
    """One for each seed."""
    note: str
    """As in the tables."""


@dataclass(frozen=True)
class _Frame:
    """Where panels are, and what their values are worth."""

    rules: tuple[str, ...]
    units: tuple[str, ...]
    epochs: float
    low: float
    high: float

    @property
    def is_table(self) -> bool:
        """Whether units are rows and rules are columns; otherwise panels go on line by line."""
        return len(self.rules) > 1

    @property
    def columns(self) -> int:
        return len(self.rules) if self.is_table else min(_ABREAST, len(self.units))

    @property
    def rows(self) -> int:
        return len(self.units) if self.is_table else -(-len(self.units) // _ABREAST)

    @property
    def left(self) -> float:
        names = max(svg.width_of(_short(unit), _SIZE) for unit in self.units)
        return _MARGIN + _NUMBERS + (names if self.is_table else 0.0)

    @property
    def pitch(self) -> float:
        """From row to row: panels share the headings of their columns, or each has its own."""
        return _HEIGHT + _GAP + (0.0 if self.is_table else _HEADING)

    def cell(self, panel: Panel) -> tuple[int, int]:
        """Row and column."""
        unit = self.units.index(panel.unit)
        return (unit, self.rules.index(panel.rule)) if self.is_table else divmod(unit, _ABREAST)

    def corner(self, row: int, column: int) -> svg.Point:
        """The upper left one of a panel."""
        return self.left + column * (_WIDTH + _GAP), _TOP + _HEADING + row * self.pitch

    def at(self, corner: svg.Point, epoch: float, value: float) -> svg.Point:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return corner[0] + _WIDTH * epoch / self.epochs, corner[1] + _HEIGHT * (1 - share)


def small_multiples(title: str, what: str, base: Points, panels: Sequence[Panel]) -> str:
    """An SVG with a row for each unit and a column for each rule.

    Values far from all others, such as those of runs that diverge, are drawn at the edge.

    Args:
        title: above it.
        what: the values are.
        base: a curve that each panel shows in grey.
        panels: of one axis.
    """
    frame = _frame(base, panels)
    caption = f"{what}; a line for each seed{', the base in grey' if base else ''}"
    heading = title if frame.is_table else ", ".join(filter(None, (title, *frame.rules)))
    shapes = [
        svg.text((_MARGIN, 24), heading, size=15, bold=True),
        svg.text((_MARGIN, 42), caption, size=_SIZE, fill=svg.SOFT),
        *_names(frame),
    ]
    taken = {frame.cell(panel) for panel in panels}
    for panel in panels:
        row, column = frame.cell(panel)
        corner = frame.corner(row, column)
        shapes += _ground(frame, corner, panel, numbered=column == 0)
        if (row + 1, column) not in taken:
            shapes += _epochs(frame, corner)
        shapes += _curves(frame, corner, base, panel)
    right = frame.corner(0, frame.columns)[0] - _GAP
    width = max(right, svg.width_of(heading, 17), _MARGIN + svg.width_of(caption, _SIZE)) + _MARGIN
    height = frame.corner(frame.rows, 0)[1] + _BOTTOM - _GAP
    return svg.document(width, height, f"{title}: {what}", shapes)


def _frame(base: Points, panels: Sequence[Panel]) -> _Frame:
    curves = [points for panel in panels for points in panel.curves]
    low, high = _range([value for points in [base, *curves] for _, value in points])
    return _Frame(
        rules=tuple(dict.fromkeys(panel.rule for panel in panels)),
        units=tuple(dict.fromkeys(panel.unit for panel in panels)),
        epochs=max((points[-1][0] for points in [base, *curves] if points), default=1.0),
        low=low,
        high=high,
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """All values, but for those that are far from most others."""
    ordered = sorted(values) or [0.0, 1.0]
    few = len(ordered) // 8
    lowest, highest = ordered[few], ordered[-1 - few]
    far = (highest - lowest) / 2
    low, high = max(ordered[0], lowest - far), min(ordered[-1], highest + far)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _names(frame: _Frame) -> Iterator[str]:
    for column, rule in enumerate(frame.rules if frame.is_table else ()):
        x, y = frame.corner(0, column)
        yield svg.text((x + _WIDTH / 2, y - 7), rule, anchor="middle", bold=True)
    for number, unit in enumerate(frame.units):
        if frame.is_table:
            x, y = frame.corner(number, 0)
            place = (x - _NUMBERS, y + _HEIGHT / 2 + 4)
            yield svg.text(place, _short(unit), anchor="end", size=_SIZE)
        else:
            x, y = frame.corner(*divmod(number, _ABREAST))
            yield svg.text((x, y - 6), _short(unit), size=_SIZE, bold=True)


def _ground(frame: _Frame, corner: svg.Point, panel: Panel, *, numbered: bool) -> Iterator[str]:
    x, y = corner
    name = f"{panel.unit}, {panel.rule}" if panel.rule else panel.unit
    yield svg.rect(x, y, _WIDTH, _HEIGHT, _GROUND, ": ".join(filter(None, (name, panel.note))))
    for value in ticks(frame.low, frame.high, most=4):
        height = frame.at(corner, 0, value)[1]
        yield svg.line((x, height), (x + _WIDTH, height), _GRID)
        if numbered:
            yield svg.text(
                (x - 5, height + 3.5), f"{value:g}", anchor="end", size=10, fill=svg.SOFT
            )


def _epochs(frame: _Frame, corner: svg.Point) -> Iterator[str]:
    x, y = corner[0], corner[1] + _HEIGHT + 13
    yield svg.text((x, y), "0", size=10, fill=svg.SOFT)
    end = f"{frame.epochs:g} epoch{'' if frame.epochs == 1 else 's'}"
    yield svg.text((x + _WIDTH, y), end, anchor="end", size=10, fill=svg.SOFT)


def _curves(frame: _Frame, corner: svg.Point, base: Points, panel: Panel) -> Iterator[str]:
    colour = svg.COLOURS[frame.rules.index(panel.rule) % len(svg.COLOURS)]
    yield from _one_curve(frame, corner, base, _BASE, 1.5)
    for points in panel.curves:
        yield from _one_curve(frame, corner, points, colour, 1)
    if panel.note:
        rises = base and base[-1][1] > base[0][1]
        at = (corner[0] + _WIDTH - 4, corner[1] + (_HEIGHT - 5 if rises else 12))
        wrong = any(state in panel.note for state in ("failed", "diverged"))
        fill = svg.ALARM if wrong else svg.SOFT
        yield svg.text(at, panel.note, anchor="end", size=10, fill=fill)


def _one_curve(
    frame: _Frame, corner: svg.Point, points: Points, colour: str, width: float
) -> Iterator[str]:
    places = [frame.at(corner, epoch, value) for epoch, value in _thinned(points)]
    if len(places) > 1:
        yield svg.polyline(places, colour, width)
    elif places:
        yield svg.circle(places[0], colour, radius=2)


def _thinned(points: Points) -> Points:
    """Points at even distances, among them the first and the last."""
    if len(points) <= _MOST:
        return points
    return [points[round(k * (len(points) - 1) / (_MOST - 1))] for k in range(_MOST)]


def _short(name: str) -> str:
    half = (_LONGEST - 1) // 2
    return name if len(name) <= _LONGEST else f"{name[:half]}…{name[-half:]}"
