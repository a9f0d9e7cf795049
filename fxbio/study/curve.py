"""A metric over a prefix or suffix that grows, or over the values of an option."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fxbio.study import plot_svg as svg
from fxbio.study.result_tables import Line
from fxbio.study.ticks import ticks

__all__ = ["curve"]

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT = 900.0, 220.0, 70.0, 60.0, 80.0
_NARROWEST, _WIDEST = 40.0, 90.0
"""Of columns: names that are turned stay apart."""
_GRID = "#d8dee4"
_LETTER = 6.2
_SLOPE = 30.0


@dataclass(frozen=True)
class _Frame:
    """From values to places."""

    low: float
    high: float
    units: tuple[str, ...]

    def at(self, column: int, value: float) -> svg.Point:
        share = (value - self.low) / (self.high - self.low)
        return self.left + (column + 0.5) * self._step, _TOP + _HEIGHT * (1 - share)

    @property
    def left(self) -> float:
        """Names end below their columns, and begin further to the left."""
        reach = math.cos(math.radians(_SLOPE)) * _LETTER
        starts = (reach * len(u) - (k + 0.5) * self._step for k, u in enumerate(self.units))
        return max(_LEFT, *starts)

    @property
    def right(self) -> float:
        return self.left + len(self.units) * self._step

    @property
    def _step(self) -> float:
        return min(_WIDEST, max(_NARROWEST, _WIDTH / len(self.units)))


def curve(title: str, metric: str, base: Line, lines: Sequence[Line]) -> str:
    """An SVG with a curve for each rule, bands of one standard deviation, and the base dashed.

    Args:
        title: above it.
        metric: what the numbers are.
        base: the base of the study.
        lines: of one axis, in the order in which it grows.
    """
    frame = _Frame(*_range([base, *lines]), tuple(dict.fromkeys(line.unit for line in lines)))
    below = 30 + _LETTER * max(map(len, frame.units)) * math.sin(math.radians(_SLOPE))
    shapes = [svg.text((16, 24), title, size=15, bold=True)]
    shapes.append(svg.text((16, 42), f"{metric} ± one standard deviation", size=11, fill=svg.SOFT))
    shapes += _grid(frame)
    if base.mean is not None:
        y = frame.at(0, base.mean)[1]
        shapes.append(svg.line((frame.left, y), (frame.right, y), svg.SOFT, dashed=True))
        shapes.append(svg.text((frame.right + 8, y + 4), "base", size=11, fill=svg.SOFT))
    rules = list(dict.fromkeys(line.rule for line in lines))
    for number, rule in enumerate(rules):
        colour = svg.COLOURS[number % len(svg.COLOURS)]
        shapes += _one_rule(frame, [line for line in lines if line.rule == rule], colour)
        shapes += _missing(frame, [line for line in lines if line.rule == rule], number)
        at = (frame.right + 64, _TOP + 6 + 16 * number)  # beside the word base
        shapes.append(svg.rect(at[0] - 16, at[1] - 9, 10, 10, colour))
        shapes.append(svg.text(at, rule or metric, size=12))
    width = frame.right + _RIGHT + max(svg.width_of(rule or metric, 12) for rule in rules)
    return svg.document(width, _TOP + _HEIGHT + below, title, shapes)


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    spreads = [(line.mean, line.std or 0.0) for line in lines if line.mean is not None]
    if not spreads:
        return 0.0, 1.0
    low, high = min(m - s for m, s in spreads), max(m + s for m, s in spreads)
    room = 0.08 * (high - low) or 0.01
    return low - room, high + room


def _grid(frame: _Frame) -> Iterator[str]:
    for value in ticks(frame.low, frame.high):
        y = frame.at(0, value)[1]
        yield svg.line((frame.left, y), (frame.right, y), _GRID)
        yield svg.text((frame.left - 8, y + 4), f"{value:g}", anchor="end", size=11)
    for column, unit in enumerate(frame.units):
        at = (frame.at(column, frame.low)[0] + 4, _TOP + _HEIGHT + 16)
        yield svg.text(at, unit, anchor="end", size=11, turned=-_SLOPE)


def _missing(frame: _Frame, lines: Sequence[Line], number: int) -> Iterator[str]:
    """Why there is no point in a column."""
    for line in (line for line in lines if line.mean is None):
        x, y = frame.at(frame.units.index(line.unit), frame.low)
        what = f"{line.rule}: {line.note}" if line.rule else line.note
        at = (x, y - 6 - 13 * number)
        yield svg.text(at, what, anchor="middle", size=10, fill=svg.ALARM)


def _one_rule(frame: _Frame, lines: Sequence[Line], colour: str) -> Iterator[str]:
    found = [(frame.units.index(line.unit), line) for line in lines]
    known = [(column, line, line.mean) for column, line in found if line.mean is not None]
    if not known:
        return
    above = [frame.at(column, mean + (line.std or 0.0)) for column, line, mean in known]
    below = [frame.at(column, mean - (line.std or 0.0)) for column, line, mean in known]
    yield svg.band(above, below, colour)
    yield svg.polyline([frame.at(column, mean) for column, _, mean in known], colour)
    for column, line, mean in known:
        tip = f"{line.unit}, {line.rule}: {mean:.4f} ± {line.std or 0.0:.4f}, n = {line.n}"
        yield svg.circle(frame.at(column, mean), colour, tip)
