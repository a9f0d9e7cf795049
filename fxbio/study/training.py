"""How the runs of a study came to their results: curves over the epochs, axis by axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from fxbio.study.cells import BASE
from fxbio.study.history import (
    GRADIENT_ANGLE,
    LOSS,
    WEIGHT_ANGLE,
    History,
    Points,
    read_history,
)
from fxbio.study.multiples import Panel, small_multiples
from fxbio.study.study_folder import Index, StudyFolder
from fxbio.study.summary import StudyResults
from fxbio.train.output.run_folder import RunFolder

__all__ = ["read_histories", "training_plots"]

Histories = Mapping[tuple[str, int], History]
"""By run and seed."""


def read_histories(index: Index, folder: StudyFolder) -> Histories:
    """What all runs of a study wrote down so far."""
    return {
        (run, seed): read_history(RunFolder(folder.cell(run, seed) / "run"), index.metric)
        for run in dict.fromkeys(cell.run for cell in index.cells)
        for seed in index.seeds
    }


def training_plots(
    axis: str, results: StudyResults, histories: Histories
) -> Iterator[tuple[str, str]]:
    """What the runs of an axis wrote down, and an SVG of it with a panel for each cell."""
    index = results.index
    cells = [
        (cell, line)
        for cell, line in zip(index.cells, results.lines, strict=True)
        if cell.axis == axis
    ]
    for what in (index.metric, LOSS, WEIGHT_ANGLE, GRADIENT_ANGLE):
        panels = [
            Panel(cell.unit, cell.rule, _of(cell.run, what, index.seeds, histories), line.note)
            for cell, line in cells
        ]
        shown = {panel.rule for panel in panels if panel.curves}  # some rules have no angles
        if shown:
            base = _mean(_of(BASE, what, index.seeds, histories))
            kept = [panel for panel in panels if panel.rule in shown]
            yield what, small_multiples(axis, what, base, kept)


def _of(run: str, what: str, seeds: Sequence[int], histories: Histories) -> list[Points]:
    """The curves of a cell, one for each seed that has any."""
    found = [histories[run, seed] for seed in seeds]
    return [history[what] for history in found if what in history]


def _mean(curves: Sequence[Points]) -> Points:
    """The mean over curves, where all of them have a point."""
    values = [dict(points) for points in curves]
    common = [epoch for epoch, _ in curves[0] if all(epoch in v for v in values)] if curves else []
    return [(epoch, fmean(v[epoch] for v in values)) for epoch in common]
