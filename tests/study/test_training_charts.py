"""Curves over the epochs: nothing is hidden, one scale for all, seeds told apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fxbio.study.charts import chart_style, rendered, rule_styles, seed_dashes
from fxbio.study.history import Points
from fxbio.study.training_charts import Curve, Panel, small_multiples
from tests.study.drawing import LONG, inside, legend

SEEDS = (0, 1, 2)
BASE = [(float(epoch), 0.9 - 0.5 / epoch) for epoch in range(1, 31)]
RULES = ("fa", "usf", "dfa", "frozen")


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with chart_style():
        yield


def multiples(panels: Sequence[Panel], base: Points = BASE, width: float = 17) -> Figure:
    styles = rule_styles(panel.rule for panel in panels)
    return small_multiples("top1", base, panels, styles, seed_dashes(SEEDS), width)


def lines(axes: Axes) -> list[list[tuple[float, float]]]:
    """What is drawn: the base first, then the curves; a triangle is a line of one point."""
    return [list(zip(*line.get_data(), strict=True)) for line in axes.lines]


def calm(unit: str, rule: str = "fa", top: float = 0.95) -> Panel:
    points = [(float(epoch), top - 0.5 / epoch) for epoch in range(1, 31)]
    return Panel(unit, rule, [Curve(seed, points) for seed in SEEDS], "")


def test_what_is_drawn_is_what_was_written_down() -> None:
    figure = multiples([calm("a"), calm("b", "usf", 0.8)])
    a, b = figure.axes
    assert lines(a)[0] == lines(b)[0] == BASE
    assert lines(a)[1] == [(float(epoch), 0.95 - 0.5 / epoch) for epoch in range(1, 31)]
    assert len(lines(a)) == len(lines(b)) == 4


@pytest.mark.parametrize("outlier", [0.80, 0.01, 5.0])
@pytest.mark.parametrize("note", ["", "1 failed", "2 to do"])
def test_a_run_that_finished_is_never_at_the_edge(outlier: float, note: str) -> None:
    """The others end between 0.94 and 0.96: a scale made for them would clamp it."""
    flat = [(1.0, 0.95), (30.0, 0.95)]
    others = [Panel(f"u{k}", "fa", [Curve(seed, flat) for seed in SEEDS], "") for k in range(20)]
    odd = Panel("odd", "fa", [Curve(0, [(1.0, 0.95), (30.0, outlier)])], note)
    figure = multiples([*others, odd], flat)
    for axes in figure.axes:
        low, high = axes.get_ylim()
        assert low < min(outlier, 0.95)
        assert high > max(outlier, 0.95)
        assert all(low < value < high for line in lines(axes) for _, value in line)
    assert lines(figure.axes[-1])[1] == [(1.0, 0.95), (30.0, outlier)]
    assert legend(figure) == ["base, mean over seeds", "seed 0", "seed 1", "seed 2"]


@pytest.mark.parametrize(("wild", "marker"), [(1e30, "^"), (-1e30, "v")])
def test_only_a_run_that_diverged_leaves_the_scale_and_says_so(wild: float, marker: str) -> None:
    exploding = [*BASE[:20], (21.0, wild), (22.0, 2 * wild)]
    figure = multiples([calm("a"), Panel("b", "fa", [Curve(1, exploding, True)], "1 diverged")])
    a, b = figure.axes
    assert a.get_ylim() == b.get_ylim()
    low, high = b.get_ylim()
    assert high - low < 1
    edge = b.lines[-1]
    assert (str(edge.get_marker()), list(edge.get_xdata())) == (marker, [21.0])
    assert list(edge.get_ydata()) == [high if wild > 0 else low]
    assert len(a.lines) == 4
    assert "diverged: off the scale" in legend(figure)
    assert [text.get_text() for text in b.texts] == ["1 diverged"]


def test_a_diverged_run_inside_of_the_scale_has_no_triangle() -> None:
    figure = multiples([calm("a"), Panel("b", "fa", [Curve(1, BASE[:9], True)], "1 diverged")])
    assert len(figure.axes[1].lines) == 2
    assert "diverged: off the scale" not in legend(figure)


def test_finished_runs_that_are_far_apart_get_a_logarithmic_scale() -> None:
    wild = [(1.0, 2.0), (2.0, 3e13), (3.0, 1e13)]
    figure = multiples([calm("a"), Panel("b", "fa", [Curve(0, wild)], "")])
    for axes in figure.axes:
        assert axes.get_yscale() == "log"
        low, high = axes.get_ylim()
        assert low < 0.4
        assert high > 3e13
        ticks = [label.get_text() for label in axes.get_yticklabels()]
        assert not any("$" in text for text in ticks)
    assert "top1 (log scale)" in [text.get_text() for text in figure.texts]
    rendered(figure, "svg", "")  # without a warning


def test_all_diverged() -> None:
    figure = multiples([Panel("a", "fa", [Curve(0, [(1.0, 1.0), (2.0, 9.0)], True)], "")], [])
    low, high = figure.axes[0].get_ylim()
    assert (low < 1.0, high > 9.0) == (True, True)
    assert legend(figure) == ["seed 0"]


def test_a_seed_has_the_same_dashes_in_every_panel() -> None:
    points = BASE[:5]
    whole = Panel("a", "fa", [Curve(seed, points) for seed in SEEDS], "")
    some = Panel("b", "fa", [Curve(seed, points) for seed in (1, 2)], "1 to do")
    figure = multiples([whole, some])
    first, second = (
        [line._dash_pattern for line in axes.lines[1:]]  # type: ignore[attr-defined]
        for axes in figure.axes
    )
    assert len({str(pattern) for pattern in first}) == 3
    assert second == first[1:]
    samples = figure.legends[0].get_lines()[1:]
    assert [line.is_dashed() for line in samples] == [False, True, True]
    later = multiples([Panel("b", "fa", [Curve(2, points)], "")])
    assert legend(later) == ["base, mean over seeds", "seed 2"]


def test_units_are_rows_and_rules_are_columns() -> None:
    figure = multiples([calm(unit, rule) for unit in ("a", "b", "c") for rule in RULES])
    places = [axes.get_position() for axes in figure.axes]
    assert len({round(place.x0, 6) for place in places}) == 4
    assert len({round(place.y0, 6) for place in places}) == 3
    assert len({(round(place.width, 6), round(place.height, 6)) for place in places}) == 1
    assert places[0].x0 < places[1].x0
    assert places[0].y0 > places[4].y0
    shown = [text.get_text() for text in figure.texts]
    assert [name for name in shown if name in RULES] == list(RULES)
    assert {"top1", "epoch"} <= set(shown)
    assert [axes.get_title(loc="left") for axes in figure.axes[::4]] == ["a", "b", "c"]


def test_panels_of_one_rule_go_on_line_by_line() -> None:
    figure = multiples([calm(f"u{k}") for k in range(6)])
    assert len({round(axes.get_position().y0, 6) for axes in figure.axes}) == 2
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"u{k}" for k in range(6)]


def test_many_points_are_thinned_and_keep_their_ends() -> None:
    points = [(k / 7, math.sin(k)) for k in range(1000)]
    drawn = lines(multiples([Panel("a", "fa", [Curve(0, points)], "")], points).axes[0])[1]
    assert len(drawn) < 50
    assert (drawn[0], drawn[-1]) == (points[0], points[-1])
    assert set(drawn) <= set(points)


def test_a_run_of_one_evaluation_is_a_dot() -> None:
    axes = multiples([Panel("a", "fa", [Curve(0, [(1.0, 0.5)])], "")], [(1.0, 0.4)]).axes[0]
    assert [str(line.get_marker()) for line in axes.lines] == [".", "."]


@pytest.mark.parametrize("width", [6.0, 8.5, 17.0])
@pytest.mark.parametrize("unit", ["a", LONG])
@pytest.mark.parametrize("rules", [RULES[:1], RULES], ids=len)
def test_nothing_leaves_the_figure(width: float, unit: str, rules: Sequence[str]) -> None:
    wild = [Curve(1, [(1.0, 0.5), (2.0, 1e9)], True)]
    panels = [calm(f"{unit}{k}", rule) for k in range(3) for rule in rules]
    figure = multiples([*panels, Panel("z", "fa", wild, "1 diverged")], width=width)
    figure.draw_without_rendering()
    assert len(list(inside(figure))) > 10
