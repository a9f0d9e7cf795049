"""A metric over a prefix or suffix that grows, or over the values of an option."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fxbio.study.ablation import svg
from fxbio.study.ablation.summary import Line

__all__ = ["curve"]

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Of Okabe and Ito: they differ for colour-blind eyes too."""
_STEP, _HEIGHT, _LEFT, _TOP, _RIGHT = 90.0, 220.0, 70.0, 60.0, 160.0
_GRID, _SOFT = "#d8dee4", "#656d76"
_LETTER = 6.2
_SLOPE = 30.0


@dataclass(frozen=True)
class _Frame:
    """From values to places."""

    low: float
    high: float
    columns: int

    def at(self, column: int, value: float) -> svg.Point:
        share = (value - self.low) / (self.high - self.low)
        return _LEFT + (column + 0.5) * _STEP, _TOP + _HEIGHT * (1 - share)

    @property
    def right(self) -> float:
        return _LEFT + self.columns * _STEP


def curve(title: str, metric: str, base: Line, lines: Sequence[Line]) -> str:
    """An SVG with a curve for each rule, bands of one standard deviation, and the base dashed.

    Args:
        title: above it.
        metric: what the numbers are.
        base: the base of the study.
        lines: of one axis, in the order in which it grows.
    """
    units = list(dict.fromkeys(line.unit for line in lines))
    frame = _Frame(*_range([base, *lines]), len(units))
    below = 30 + _LETTER * max(map(len, units)) * math.sin(math.radians(_SLOPE))
    shapes = [svg.text((16, 24), title, size=15, bold=True)]
    shapes.append(svg.text((16, 42), f"{metric} ± one standard deviation", size=11, fill=_SOFT))
    shapes += _grid(frame, units)
    if base.mean is not None:
        start, end = frame.at(0, base.mean), frame.at(0, base.mean)
        shapes.append(svg.line((_LEFT, start[1]), (frame.right, end[1]), _SOFT, dashed=True))
        shapes.append(svg.text((frame.right + 8, end[1] + 4), "base", size=11, fill=_SOFT))
    for number, rule in enumerate(dict.fromkeys(line.rule for line in lines)):
        colour = _COLOURS[number % len(_COLOURS)]
        shapes += _one_rule(frame, units, [line for line in lines if line.rule == rule], colour)
        at = (frame.right + 64, _TOP + 6 + 16 * number)  # beside the word base
        shapes.append(svg.rect(at[0] - 16, at[1] - 9, 10, 10, colour))
        shapes.append(svg.text(at, rule or metric, size=12))
    return svg.document(frame.right + _RIGHT, _TOP + _HEIGHT + below, title, shapes)


def _range(lines: Sequence[Line]) -> tuple[float, float]:
    spreads = [(line.mean, line.std or 0.0) for line in lines if line.mean is not None]
    if not spreads:
        return 0.0, 1.0
    low, high = min(m - s for m, s in spreads), max(m + s for m, s in spreads)
    room = 0.08 * (high - low) or 0.01
    return low - room, high + room


def _grid(frame: _Frame, units: Sequence[str]) -> Iterator[str]:
    for value in _ticks(frame.low, frame.high):
        y = frame.at(0, value)[1]
        yield svg.line((_LEFT, y), (frame.right, y), _GRID)
        yield svg.text((_LEFT - 8, y + 4), f"{value:g}", anchor="end", size=11)
    for column, unit in enumerate(units):
        at = (frame.at(column, frame.low)[0] + 4, _TOP + _HEIGHT + 16)
        yield svg.text(at, unit, anchor="end", size=11, turned=-_SLOPE)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers inside a range, four to nine of them."""
    size = 10 ** math.floor(math.log10((high - low) / 2))
    step = next(size * m for m in (0.5, 1, 2, 5) if (high - low) / (size * m) <= 9)
    first = math.ceil(low / step)
    return [round(k * step, 12) for k in range(first, math.floor(high / step) + 1)]


def _one_rule(
    frame: _Frame, units: Sequence[str], lines: Sequence[Line], colour: str
) -> Iterator[str]:
    found = [(units.index(line.unit), line) for line in lines]
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
