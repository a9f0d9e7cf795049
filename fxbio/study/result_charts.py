"""Results of an axis: a curve with error bars for each rule, or a map of units and rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fxbio.study.charts import (
    ALARM,
    INK,
    SMALL,
    SOFT,
    RuleStyle,
    legend_columns,
    new_figure,
    plain,
    shortened,
    text_width,
)
from fxbio.study.result_tables import AS_BASE, IS_BASE, Line, Notation

__all__ = ["Results", "curve", "heat_map"]

_LEAST = 0.005
"""Delta that gets the full colour where all are smaller: noise is not painted in red."""
_MOST = 1e300
"""And the largest that gets one: matplotlib doubles ranges, which must stay finite."""
_NONE = "#eceff2"
_LINE, _PAD, _TITLE, _BAR = 0.31, 0.22, 0.9, 2.6
"""Height of a line of text in a cell, what is around all of them, what the title of the rows and
what the colour bar with the names of the rules take, in cm."""


@dataclass(frozen=True)
class Results:
    """Results of an axis as they are drawn."""

    axis: str
    base: Line
    lines: Sequence[Line]
    """In the order of the study: that in which a prefix grows, for instance."""
    notation: Notation

    @property
    def units(self) -> list[str]:
        """The rows of its table."""
        return list(dict.fromkeys(line.unit for line in self.lines))

    @property
    def rules(self) -> list[str]:
        """The columns of its table."""
        return list(dict.fromkeys(line.rule for line in self.lines))

    @property
    def n(self) -> int:
        """Runs of a cell that has all of them."""
        return max(line.n for line in [self.base, *self.lines])


def curve(results: Results, styles: Mapping[str, RuleStyle], width: float) -> Figure:
    """Means and standard deviations over a prefix or suffix that grows, or an option's values.

    The mean of the base is dashed, its deviation a band. Cells as the base are hollow.

    Args:
        results: of an axis.
        styles: of the rules.
        width: in cm.
    """
    units, rules, notation = results.units, results.rules, results.notation
    longest = max(text_width(shortened(unit, width)) for unit in units)
    figure = new_figure(width, 6.2 + longest * math.sin(math.radians(30)), constrained=True)
    axes = figure.subplots()
    handles = _base_line(axes, results)
    for number, rule in enumerate(rules):
        aside = 0.12 * (number - (len(rules) - 1) / 2)  # error bars would hide each other
        found = [(units.index(line.unit) + aside, line) for line in results.lines]
        ruled = [(x, line) for x, line in found if line.rule == rule]
        _one_rule(axes, [pair for pair in ruled if pair[1].n], styles[rule], results)
        _missing(axes, [pair for pair in ruled if not pair[1].n])
        handles.append(_sample(styles[rule], plain(rule or notation.metric)))
    if any(AS_BASE in line.note for line in results.lines):
        handles.append(Line2D([], [], ls="", marker="o", mfc="white", mec=INK, label=AS_BASE))
    names = [shortened(unit, width) for unit in units]
    axes.set_xticks(range(len(units)), names, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.5, len(units) - 0.5)
    axes.grid(axis="y")
    axes.set(
        xlabel=plain(results.axis), ylabel=f"{plain(notation.metric)} (mean ± SD, n = {results.n})"
    )
    columns = legend_columns(handles, width)
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)
    return figure


def _base_line(axes: Axes, results: Results) -> list[Line2D]:
    base, notation = results.base, results.notation
    if base.mean is None:
        return []
    mean, spread = notation.scaled(base.mean), notation.scaled(base.std or 0.0)
    axes.axhspan(mean - spread, mean + spread, color=SOFT, alpha=0.15, lw=0)
    label = "base" if base.n == results.n else f"base, n = {base.n}"
    return [axes.axhline(mean, color=SOFT, dashes=(4, 2), label=label)]


def _sample(style: RuleStyle, label: str) -> Line2D:
    return Line2D([], [], color=style.colour, marker=style.marker, label=label)


def _one_rule(
    axes: Axes, known: Sequence[tuple[float, Line]], style: RuleStyle, results: Results
) -> None:
    scaled = results.notation.scaled
    places = [x for x, _ in known]
    means = [scaled(line.mean or 0.0) for _, line in known]
    bars = [math.nan if line.std is None else scaled(line.std) for _, line in known]
    axes.errorbar(places, means, yerr=bars, color=style.colour, capsize=2, elinewidth=0.8)
    for x, mean, (_, line) in zip(places, means, known, strict=True):
        fill = "white" if AS_BASE in line.note else style.colour
        axes.plot(x, mean, ls="", marker=style.marker, mec=style.colour, mfc=fill)
        if line.n < results.n:
            axes.annotate(
                f"n = {line.n}", (x, mean), (4, 4), textcoords="offset points", size=SMALL
            )


def _missing(axes: Axes, lines: Sequence[tuple[float, Line]]) -> None:
    """Draw the reason why there is no point."""
    for x, line in lines:
        what = ": ".join(filter(None, (plain(line.rule), line.note)))
        place = axes.get_xaxis_transform()  # from the bottom up, wherever the numbers are
        axes.text(x, 0.02, what, size=SMALL, color=ALARM, rotation=90, ha="center", transform=place)


def heat_map(results: Results, width: float) -> Figure:
    """Deltas to the base: a row for each unit, a column for each rule.

    Red is worse than the base and blue is better; the strongest colour is the largest delta.

    Args:
        results: of an axis.
        width: in cm.
    """
    names = [shortened(unit, width) for unit in results.units]
    across = width - max(map(text_width, names)) - _TITLE
    room = across / len(results.rules)
    cells = {(line.unit, line.rule): _words(line, results, room) for line in results.lines}
    tallest = max(map(len, cells.values()))
    height = len(names) * (tallest * _LINE + _PAD) + _BAR
    figure = new_figure(width, height, constrained=True)
    axes = figure.subplots()
    mesh = _painted(axes, results)
    widest = max(text_width(word, SMALL) for words in cells.values() for word in words)
    _written(axes, results, mesh, cells, SMALL * min(1.0, (room - _PAD) / widest))
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.set_xticks(
        np.arange(len(results.rules)) + 0.5, [shortened(rule, width) for rule in results.rules]
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(ylabel=plain(results.axis), xlabel="rule" if any(results.rules) else "")
    _colour_bar(figure, axes, mesh, _bar_title(results, across))
    return figure


def _words(line: Line, results: Results, room: float) -> list[str]:
    """The lines of text in a cell that is so many cm wide."""
    if line.mean is None:
        return [line.note]
    notation = results.notation
    value, delta = (
        notation.spread(line.mean, line.std),
        f"Δ {notation.delta(line.delta)}".replace("-", "−"),
    )
    notes = [part for part in line.note.split(", ") if part]
    told = next((note for note in (AS_BASE, IS_BASE) if note in notes), delta)
    rest = [note for note in notes if note != told]
    if text_width(value, SMALL) + _PAD < room:
        return [value, f"{told}, n = {line.n}", *rest]
    return [*value.replace(" ±", "\n±").split("\n"), told, f"n = {line.n}", *rest]


def _painted(axes: Axes, results: Results) -> QuadMesh:
    """The deltas as colours; a cell without one is grey."""
    units, rules, scaled = results.units, results.rules, results.notation.scaled
    deltas = np.full((len(units), len(rules)), math.nan)
    for line in results.lines:
        if line.delta is not None:
            deltas[units.index(line.unit), rules.index(line.rule)] = scaled(line.delta)
    found = (abs(line.delta) for line in results.lines if line.delta is not None)
    largest = min(_MOST, max([_LEAST, *found]))
    return axes.pcolormesh(
        np.ma.masked_invalid(deltas),
        cmap=colormaps["RdBu"].with_extremes(bad=_NONE),
        norm=CenteredNorm(0.0, scaled(largest)),
        edgecolors="white",
        linewidth=1.5,
    )


def _written(
    axes: Axes,
    results: Results,
    mesh: QuadMesh,
    cells: Mapping[tuple[str, str], Sequence[str]],
    size: float,
) -> None:
    """The numbers in the cells, readable on their colours."""
    colours = mesh.to_rgba(np.ma.asarray(mesh.get_array()))
    for line in results.lines:
        row, column = results.units.index(line.unit), results.rules.index(line.rule)
        red, green, blue, _ = colours[row, column]
        ink = INK if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
        words = "\n".join(cells[line.unit, line.rule])
        place = (column + 0.5, row + 0.5)
        axes.text(*place, words, size=size, color=ink, ha="center", va="center")


def _bar_title(results: Results, room: float) -> str:
    """Legend of the colours, in one line or two."""
    base, notation = results.base, results.notation
    title = f"Δ {plain(notation.metric)} to the base"
    if base.mean is None:
        return title
    n = "" if base.n == results.n else f", n = {base.n}"
    told = f"({notation.spread(base.mean, base.std)}{n})"
    one = f"{title} {told}"
    return one if text_width(one, 8) < room else f"{title}\n{told}"


def _colour_bar(figure: Figure, axes: Axes, mesh: QuadMesh, title: str) -> None:
    share = 0.25 / (figure.get_figheight() * 2.54)  # 2.5 mm high, whatever the number of rows
    bar = figure.colorbar(mesh, ax=axes, label=title, location="top", fraction=share, aspect=60)
    bar.outline.set_visible(False)
