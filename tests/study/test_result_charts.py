"""Charts of results, against numbers that are worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from fxbio.study.charts import chart_style, rule_styles
from fxbio.study.result_charts import Results, curve, heat_map
from fxbio.study.result_tables import Line, Notation
from tests.study.drawing import LONG, inside, legend


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with chart_style():
        yield


def line(unit: str, rule: str, mean: float | None, std: float | None = 0.1, **more: Any) -> Line:
    delta, n = (None, 0) if mean is None else (mean - 0.9, 3)
    values = dict(axis="each", delta=delta, n=n, steps=9, angle=None, note="") | more
    return Line(unit=unit, rule=rule, mean=mean, std=std, **values)


BASE = replace(line("base", "", 0.9, 0.01), axis="", delta=None)


def results(*lines: Line, percent: bool = False, axis: str = "each layer") -> Results:
    return Results(axis, BASE, lines, Notation("top1", percent))


def grid() -> Results:
    return results(
        line("a", "fa", 0.7),
        line("a", "usf", 0.9, note="as the base"),
        line("b", "fa", 0.95, None, n=1, note="1 failed, 1 diverged"),
        line("b", "usf", None, None, note="3 to do"),
    )


def drawn(figure: Figure) -> Axes:
    """The axes, where everything has its final place."""
    figure.draw_without_rendering()
    return figure.axes[0]


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize(("percent", "by"), [(False, 1), (True, 100)])
def test_error_bars_are_one_standard_deviation(percent: bool, by: float) -> None:
    lines = (line("a", "fa", 0.5), line("b", "fa", 0.75, 0.05), line("c", "fa", 0.6, None))
    found = results(*lines, percent=percent)
    axes = drawn(curve(found, rule_styles(["fa"]), 17))
    (bars,) = (c for c in axes.containers if isinstance(c, ErrorbarContainer))
    spans = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments() if len(segment)]
    assert spans[0] == pytest.approx([by * 0.4, by * 0.6])
    assert spans[1] == pytest.approx([by * 0.7, by * 0.8])
    assert all(math.isnan(value) for span in spans[2:] for value in span)
    assert list(bars.lines[0].get_ydata()) == pytest.approx([by * 0.5, by * 0.75, by * 0.6])
    low, high = axes.get_ylim()
    assert low < by * 0.4
    assert high > by * 0.91  # the band of the base


def test_axes_have_titles_and_n() -> None:
    axes = drawn(curve(grid(), rule_styles(["fa", "usf"]), 17))
    assert axes.get_xlabel() == "each layer"
    assert axes.get_ylabel() == "top1 (mean ± SD, n = 3)"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    assert words(axes) == ["n = 1", "usf: 3 to do"]


def test_the_legend_names_the_base_the_rules_and_what_is_hollow() -> None:
    styles = rule_styles(["fa", "usf"])
    figure = curve(grid(), styles, 17)
    axes = drawn(figure)
    assert legend(figure) == ["base", "fa", "usf", "as the base"]
    points = {str(line.get_marker()): line for line in axes.lines if len(line.get_xdata()) == 1}
    hollow, full = (points[styles[rule].marker] for rule in ("usf", "fa"))
    assert hollow.get_markerfacecolor() == "white"
    assert full.get_markerfacecolor() == styles["fa"].colour
    assert legend(curve(results(line("a", "fa", 0.7)), styles, 17)) == ["base", "fa"]


def test_a_base_with_fewer_runs_says_so() -> None:
    found = replace(grid(), base=replace(BASE, n=2))
    assert legend(curve(found, rule_styles(["fa", "usf"]), 17))[0] == "base, n = 2"
    assert drawn_bar(heat_map(found, 17)) == "Δ top1 to the base (0.9000 ± 0.0100, n = 2)"


def test_a_cell_that_is_the_base_has_no_delta() -> None:
    found = results(line("usf", "", 0.9, delta=None, note="the base itself"))
    assert words(drawn(heat_map(found, 17))) == ["0.9000 ± 0.1000\nthe base itself, n = 3"]


def drawn_bar(figure: Figure) -> str:
    drawn(figure)
    return figure.axes[1].get_xlabel()


def test_a_heat_map_tells_spread_delta_and_n() -> None:
    figure = heat_map(grid(), 17)
    assert words(drawn(figure)) == [
        "0.7000 ± 0.1000\nΔ −0.2000, n = 3",
        "0.9000 ± 0.1000\nas the base, n = 3",
        "0.9500\nΔ +0.0500, n = 1\n1 failed\n1 diverged",
        "3 to do",
    ]
    axes = figure.axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("each layer", "rule")
    assert drawn_bar(figure) == "Δ top1 to the base (0.9000 ± 0.0100)"


def test_a_heat_map_in_percent() -> None:
    figure = heat_map(replace(grid(), notation=Notation("top1", True)), 17)
    assert words(drawn(figure))[0] == "70.00 ± 10.00\nΔ −20.00, n = 3"
    assert drawn_bar(figure) == "Δ top1 (%) to the base (90.00 ± 1.00)"


def test_red_is_worse_blue_is_better_and_grey_is_nothing() -> None:
    axes = drawn(heat_map(grid(), 17))
    (mesh,) = axes.collections
    worse, same, better, nothing = (mesh.to_rgba(mesh.get_array()).reshape(4, -1)[:, :3]).tolist()  # type: ignore
    assert worse[0] > worse[2] + 0.2
    assert better[2] > better[0] + 0.1
    assert max(same) - min(same) < 0.02
    assert min(same) > 0.95
    assert nothing == pytest.approx(to_rgb("#eceff2"))
    assert sum(worse) < sum(better)  # the delta is larger


def test_noise_is_not_painted_in_red() -> None:
    axes = drawn(heat_map(results(line("a", "fa", 0.8999), line("b", "fa", 0.9001)), 17))
    (mesh,) = axes.collections
    assert min(mesh.to_rgba(mesh.get_array())[..., :3].ravel()) > 0.9  # type: ignore


MANY = [f"{LONG}{k}" for k in range(12)]


@pytest.mark.parametrize("width", [6.0, 8.5, 17.0, 30.0])
@pytest.mark.parametrize("units", [["a", "b"], MANY], ids=["short", "long"])
@pytest.mark.parametrize("rules", [["fa"], ["fa", "usf", "dfa", "frozen"]], ids=len)
def test_nothing_leaves_the_figure_nor_its_cell(
    width: float, units: list[str], rules: list[str]
) -> None:
    found = results(*(line(u, r, 0.8, note="1 failed") for u in units for r in rules))
    figure = heat_map(found, width)
    axes = drawn(figure)
    assert len(list(inside(figure))) > len(units) * len(rules)
    for number, text in enumerate(axes.texts):
        row, column = divmod(number, len(rules))
        corners = axes.transData.transform([(column, row), (column + 1, row + 1)])
        box = text.get_window_extent()
        assert corners[:, 0].min() <= box.x0 <= box.x1 <= corners[:, 0].max()
        assert corners[:, 1].min() <= box.y0 <= box.y1 <= corners[:, 1].max()
    figure = curve(found, rule_styles(rules), width)
    drawn(figure)
    assert len(list(inside(figure))) > len(units)


@pytest.mark.parametrize("name", ["a$b$c", "<x>&", "a\nb\x07", "ñ", "名前"])
def test_names_are_no_formulas(name: str) -> None:
    found = results(line(name, "fa", 0.8), axis=name)
    axes = drawn(heat_map(found, 17))
    shown = " ".join(name.replace("\x07", " ").split())
    assert axes.get_ylabel() == axes.get_yticklabels()[0].get_text() == shown


@pytest.mark.parametrize("mean", [1e308, -1e308])
def test_the_largest_numbers_are_drawn(mean: float) -> None:
    figure = heat_map(results(line("a", "fa", mean), line("b", "fa", 0.5)), 8.5)
    figure.canvas.draw()
    mesh: Any = figure.axes[0].collections[0]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-1e300, 1e300)
