"""Figures of a study, and their contents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from matplotlib.figure import Figure

from fxbio.study.cells import BASE, slug
from fxbio.study.charts import rule_styles, seed_dashes
from fxbio.study.history import (
    GRADIENT_ANGLE,
    LOSS,
    WEIGHT_ANGLE,
    History,
    Points,
    read_history,
)
from fxbio.study.result_charts import Results, curve, heat_map
from fxbio.study.result_tables import Notation
from fxbio.study.study_folder import StudyFolder
from fxbio.study.summary import StudyResults
from fxbio.study.training_charts import Curve, Panel, small_multiples
from fxbio.train.output.run_folder import RunFolder

__all__ = ["figures"]

Histories = Mapping[tuple[str, int], History]
"""What each run wrote down, by cell and seed."""


def figures(
    results: StudyResults, folder: StudyFolder, width: float, percent: bool
) -> Iterator[tuple[str, str, str, Figure]]:
    """The axis of each figure, what it shows, its path without an ending, and itself.

    Args:
        results: of the study.
        folder: its folder, where the runs are.
        width: in cm.
        percent: whether the metric is shown in percent.
    """
    index, notation = results.index, Notation(results.index.metric, percent)
    styles, dashes = rule_styles(cell.rule for cell in index.cells[1:]), seed_dashes(index.seeds)
    histories = {
        (run, seed): read_history(RunFolder(folder.cell(run, seed) / "run"), index.metric)
        for run in dict.fromkeys(cell.run for cell in index.cells)
        for seed in index.seeds
    }
    for axis, lines in results.axes().items():
        shown = Results(axis, results.base, lines, notation)
        is_curve = axis in index.curves
        figure = curve(shown, styles, width) if is_curve else heat_map(shown, width)
        yield axis, index.metric, slug(axis), figure
        for what, panels, base in _training(axis, results, histories, notation):
            path = f"curves/{slug(axis)}/{slug(what)}"
            label = notation.metric if what == index.metric else what
            figure = small_multiples(label, base, panels, styles, dashes, width)
            yield axis, f"{what} over the epochs", path, figure


def _training(
    axis: str, results: StudyResults, histories: Histories, notation: Notation
) -> Iterator[tuple[str, list[Panel], Points]]:
    """Histories of the runs of an axis, a panel for each cell, and the mean of the base."""
    index = results.index
    pairs = zip(index.cells, results.lines, strict=True)
    cells = [(cell, line) for cell, line in pairs if cell.axis == axis]
    for what in (index.metric, LOSS, WEIGHT_ANGLE, GRADIENT_ANGLE):
        by = notation.scaled(1.0) if what == index.metric else 1.0
        panels = [
            Panel(cell.unit, cell.rule, _curves(cell.run, what, results, histories, by), line.note)
            for cell, line in cells
        ]
        shown = {panel.rule for panel in panels if panel.curves}  # some rules have no angles
        if shown:
            base = _mean([c.points for c in _curves(BASE, what, results, histories, by)])
            yield what, [panel for panel in panels if panel.rule in shown], base


def _curves(
    run: str, what: str, results: StudyResults, histories: Histories, by: float
) -> list[Curve]:
    """The curves of a cell, one for each seed that has any."""
    diverged = {row.key for row in results.rows if row.state == "diverged"}
    return [
        Curve(seed, [(epoch, by * value) for epoch, value in points], (run, seed) in diverged)
        for seed in results.index.seeds
        if (points := histories[run, seed].get(what))
    ]


def _mean(curves: Sequence[Points]) -> Points:
    """The mean over curves, where all of them have a point."""
    values = [dict(points) for points in curves]
    common = [epoch for epoch, _ in curves[0] if all(epoch in v for v in values)] if curves else []
    return [(epoch, fmean(v[epoch] for v in values)) for epoch in common]
