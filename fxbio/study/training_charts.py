"""Small multiples: how the runs of each cell came to their results, all on the same scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from fxbio.study.charts import (
    ALARM,
    INK,
    SMALL,
    SOFT,
    LineStyle,
    RuleStyle,
    inches,
    legend_columns,
    new_figure,
    plain,
    shortened,
)
from fxbio.study.history import Points

__all__ = ["Curve", "Panel", "small_multiples"]

_LEFT, _RIGHT, _TOP, _BOTTOM = 1.5, 0.3, 0.7, 1.1
_LEGEND, _HEIGHT, _HEADING, _GAP = 0.42, 1.7, 0.55, 0.5
"""Of a line of the legend, a panel, the name above it, and between panels, in cm."""
_ABREAST = 4
"""Panels in a line, where there is one rule only and room for so many."""
_NAMED = 3.3
"""Width of a panel that a name fits above, in cm."""
_MOST = 40
"""Points of a curve: more are not seen at this size."""
_WIDE = 1e3
"""Ratio of the largest to the smallest value from which on the scale is logarithmic."""
_BASE = "#b4bac1"


@dataclass(frozen=True)
class Curve:
    """History of one run."""

    seed: int
    points: Points
    diverged: bool = False
    """Whether it has no result for that; it then leaves the scale to the others."""


@dataclass(frozen=True)
class Panel:
    """Curves shown of a cell."""

    unit: str
    rule: str
    curves: Sequence[Curve]
    """One for each seed."""
    note: str
    """As in the tables."""


def small_multiples(
    what: str,
    base: Points,
    panels: Sequence[Panel],
    styles: Mapping[str, RuleStyle],
    dashes: Mapping[int, LineStyle],
    width: float,
) -> Figure:
    """A row for each unit and a column for each rule, or panel after panel for one rule.

    Every value is inside of the scale, but for those of runs that diverged, which a triangle at
    the edge tells.

    Args:
        what: the values are.
        base: a curve that each panel shows in grey.
        panels: of one axis.
        styles: of the rules.
        dashes: of the seeds.
        width: in cm.
    """
    rules = list(dict.fromkeys(panel.rule for panel in panels))
    places = _places(panels, rules, width)
    scale = _Scale.of(base, panels)
    handles = list(_handles(base, panels, dashes, scale))
    lines = math.ceil(len(handles) / legend_columns(handles, width))
    figure, grid = _grid(places, width, _TOP + lines * _LEGEND)
    for panel, place in zip(panels, places, strict=True):
        row, column = place
        is_named = len(rules) == 1 or column == min(c for r, c in places if r == row)
        grid[place].set_title(shortened(panel.unit, width) if is_named else "", loc="left", pad=3)
        _scaled(grid[place], scale, numbered=column == 0, last=(row + 1, column) not in grid)
        _drawn(grid[place], scale, base, panel, styles[panel.rule], dashes)
    top = max(axes.get_position().y1 for axes in grid.values())
    for column, rule in enumerate(rules):
        axes = next(axes for place, axes in grid.items() if place[1] == column)
        _heading(figure, axes, top, plain(rule), styles[rule].colour)
    _labels(figure, top, what, scale, handles)
    return figure


def _places(panels: Sequence[Panel], rules: Sequence[str], width: float) -> list[tuple[int, int]]:
    """Row and column of each panel."""
    units = list(dict.fromkeys(panel.unit for panel in panels))
    if len(rules) > 1:
        return [(units.index(panel.unit), rules.index(panel.rule)) for panel in panels]
    abreast = max(1, min(_ABREAST, int((width - _LEFT - _RIGHT) / _NAMED)))
    return [divmod(units.index(panel.unit), abreast) for panel in panels]


def _grid(
    places: Sequence[tuple[int, int]], width: float, top: float
) -> tuple[Figure, dict[tuple[int, int], Axes]]:
    """Axes at each place: rows and columns of one size, below so many cm for the legend."""
    rows, columns = (1 + max(place[k] for place in places) for k in (0, 1))
    height = top + rows * (_HEIGHT + _HEADING) + _BOTTOM
    figure = new_figure(width, height, constrained=False)
    across = (width - _LEFT - _RIGHT - (columns - 1) * _GAP) / columns
    found = {}
    for row, column in places:
        left = _LEFT + column * (across + _GAP)
        bottom = height - top - (row + 1) * (_HEIGHT + _HEADING)
        corner = (left / width, bottom / height, across / width, _HEIGHT / height)
        found[row, column] = figure.add_axes(corner)
    return figure, found


@dataclass(frozen=True)
class _Scale:
    """Of all panels of a chart."""

    epochs: float
    low: float
    high: float
    is_log: bool

    @classmethod
    def of(cls, base: Points, panels: Sequence[Panel]) -> _Scale:
        """Wide enough for the base and every run that has a result."""
        curves = [curve for panel in panels for curve in panel.curves]
        calm = [base, *(curve.points for curve in curves if not curve.diverged)]
        values = [value for points in calm for _, value in points]
        values = values or [value for curve in curves for _, value in curve.points]
        epochs = max(points[-1][0] for points in [base, *(c.points for c in curves)] if points)
        low, high = min(values), max(values)
        if low > 0 and high / low > _WIDE:
            return cls(epochs, low / 1.3, high * 1.3, True)
        room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(epochs, low - room, high + room, False)

    def escape(self, points: Points) -> tuple[float, float] | None:
        """Point on the edge of the scale at which a curve leaves it for the first time."""
        for epoch, value in points:
            if not self.low <= value <= self.high:
                return epoch, self.low if value < self.low else self.high
        return None


def _scaled(axes: Axes, scale: _Scale, *, numbered: bool, last: bool) -> None:
    axes.set_xlim(0, scale.epochs)
    axes.set_ylim(scale.low, scale.high)
    if scale.is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=4))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params("y", which="minor", length=0)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=scale.epochs >= 3))
    axes.tick_params(labelleft=numbered, labelbottom=last, length=2, pad=2)
    axes.grid(axis="y")


def _drawn(
    axes: Axes,
    scale: _Scale,
    base: Points,
    panel: Panel,
    style: RuleStyle,
    dashes: Mapping[int, LineStyle],
) -> None:
    axes.plot(*_columns(base), color=_BASE, lw=1.8, marker="." if len(base) == 1 else "")
    for curve in panel.curves:
        dot = "." if len(curve.points) == 1 else ""
        (line,) = axes.plot(*_columns(curve.points), color=style.colour, lw=0.9, marker=dot)
        line.set_linestyle(dashes[curve.seed])
        edge = scale.escape(curve.points)
        if edge is not None:
            marker = "v" if edge[1] == scale.low else "^"
            axes.plot(*edge, ls="", marker=marker, color=style.colour, clip_on=False)
    _noted(axes, panel.note, len(base) > 1 and base[-1][1] > base[0][1])


def _noted(axes: Axes, note: str, rises: bool) -> None:
    """A note where curves that rise, or fall, are not."""
    if not note:
        return
    is_wrong = any(state in note for state in ("failed", "diverged"))
    axes.text(
        *(0.98, 0.04 if rises else 0.96),
        note,
        size=SMALL,
        color=ALARM if is_wrong else SOFT,
        ha="right",
        va="bottom" if rises else "top",
        transform=axes.transAxes,
        bbox={"color": "white", "alpha": 0.7, "pad": 0.5},
    )


def _columns(points: Points) -> tuple[list[float], list[float]]:
    """Epochs and values at even distances, among them the first and the last."""
    if len(points) > _MOST:
        points = [points[round(k * (len(points) - 1) / (_MOST - 1))] for k in range(_MOST)]
    return [epoch for epoch, _ in points], [value for _, value in points]


def _heading(figure: Figure, axes: Axes, top: float, rule: str, colour: str) -> None:
    """The name of a rule above its column."""
    place = axes.get_position()
    at = (place.x0 + place.x1) / 2, top + inches(_HEADING) / figure.get_figheight()
    figure.text(*at, rule, size=8, weight="bold", color=colour, ha="center", va="bottom")


def _handles(
    base: Points, panels: Sequence[Panel], dashes: Mapping[int, LineStyle], scale: _Scale
) -> Iterator[Line2D]:
    """Legend entries of the lines."""
    curves = [curve for panel in panels for curve in panel.curves]
    shown = {curve.seed for curve in curves}
    if base:
        yield Line2D([], [], color=_BASE, lw=1.8, label="base, mean over seeds")
    for seed in filter(shown.__contains__, dashes):
        yield Line2D([], [], color=INK, ls=dashes[seed], label=f"seed {seed}")
    if any(scale.escape(curve.points) for curve in curves):
        yield Line2D([], [], ls="", marker="^", color=INK, label="diverged: off the scale")


def _labels(figure: Figure, top: float, what: str, scale: _Scale, handles: list[Line2D]) -> None:
    """The titles of the axes, and the legend above all panels."""
    width, height = figure.get_size_inches()
    columns = legend_columns(handles, width * 2.54)
    figure.legend(handles=handles, loc="upper left", ncols=columns, borderaxespad=0.2)
    edge, title = inches(0.1), plain(f"{what} (log scale)" if scale.is_log else what)
    middle = (inches(_BOTTOM) / height + top) / 2
    figure.text(edge / width, middle, title, size=8, rotation=90, ha="left", va="center")
    middle = (1 + inches(_LEFT - _RIGHT) / width) / 2
    figure.text(middle, edge / height, "epoch", size=8, ha="center", va="bottom")
