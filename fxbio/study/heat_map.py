"""Deltas to the base as a map of units and rules."""

from __future__ import annotations

from collections.abc import Sequence

from fxbio.study import plot_svg as svg
from fxbio.study.result_tables import Line, delta_text

__all__ = ["heat_map"]

_WIDTH, _HEIGHT, _TOP, _MARGIN = 104.0, 34.0, 66.0, 16.0
_LETTER = 7.0
"""Width of a letter, roughly."""
_WORSE, _BETTER, _NONE = (178, 24, 43), (33, 102, 172), "#eceff2"
_LEAST = 0.005
"""Delta that gets the full colour where all are smaller: noise is not painted in red."""


def heat_map(title: str, metric: str, lines: Sequence[Line]) -> str:
    """An SVG with a row for each unit and a column for each rule.

    Red is worse than the base and blue is better; the strongest colour is the largest delta.

    Args:
        title: above it.
        metric: what the numbers are.
        lines: of one axis.
    """
    units = list(dict.fromkeys(line.unit for line in lines))
    rules = list(dict.fromkeys(line.rule for line in lines))
    left = 2 * _MARGIN + _LETTER * max(map(len, units))
    scale = max([_LEAST, *(abs(line.delta) for line in lines if line.delta is not None)])
    width = max(left + _WIDTH * len(rules), _LETTER * len(title)) + _MARGIN
    shapes = [
        svg.text((_MARGIN, 24), title, size=15, bold=True),
        svg.text((_MARGIN, 42), f"{metric}, and its delta to the base", size=11, fill=svg.SOFT),
    ]
    for column, rule in enumerate(rules):
        at = (left + (column + 0.5) * _WIDTH, _TOP - 6)
        shapes.append(svg.text(at, rule, anchor="middle", bold=True))
    for row, unit in enumerate(units):
        at = (left - 8, _TOP + (row + 0.5) * _HEIGHT + 4)
        shapes.append(svg.text(at, unit, anchor="end"))
    for line in lines:
        x, y = left + rules.index(line.rule) * _WIDTH, _TOP + units.index(line.unit) * _HEIGHT
        shapes += _cell(line, x, y, scale)
    return svg.document(width, _TOP + _HEIGHT * len(units) + _MARGIN, title, shapes)


def _cell(line: Line, x: float, y: float, scale: float) -> list[str]:
    share = 0.0 if line.delta is None else line.delta / scale
    spread = "" if line.std is None else f" ± {line.std:.4f}"
    what = "no result" if line.mean is None else f"{line.mean:.4f}{spread}, n = {line.n}"
    tip = f"{line.unit}, {line.rule}: {what}"
    fill = _NONE if line.delta is None else _colour(share)
    ink = "#ffffff" if abs(share) > 0.6 else "#1f2328"
    middle = x + _WIDTH / 2
    words = _words(line)
    return [
        svg.rect(x + 1, y + 1, _WIDTH - 2, _HEIGHT - 2, fill, tip),
        *(
            svg.text((middle, y + 15 + 13 * k), word, anchor="middle", size=12 - 2 * k, fill=ink)
            for k, word in enumerate(words)
        ),
    ]


def _words(line: Line) -> list[str]:
    if line.mean is None:
        return [line.note.partition(",")[0]]
    return [f"{line.mean:.4f}", delta_text(line.delta)]


def _colour(share: float) -> str:
    """From white to the colour of its sign."""
    goal = _BETTER if share > 0 else _WORSE
    parts = (round(255 + (part - 255) * min(1.0, abs(share))) for part in goal)
    return "#" + "".join(f"{part:02x}" for part in parts)
