"""All plots of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fxbio.study.cells import slug
from fxbio.study.curve import curve
from fxbio.study.heat_map import heat_map
from fxbio.study.result_tables import Line
from fxbio.study.study_folder import StudyFolder
from fxbio.study.summary import StudyResults
from fxbio.study.training import read_histories, training_plots

__all__ = ["Plot", "Plots", "plots_of"]


@dataclass(frozen=True)
class Plot:
    """A picture of one axis."""

    what: str
    """What it shows."""
    path: str
    """Its file in the folder of the study."""
    svg: str


Plots = Mapping[str, Sequence[Plot]]
"""The plots of each axis: of its results first, then how they came about."""


def plots_of(results: StudyResults, folder: StudyFolder) -> Plots:
    """The plots of a study, whole or not.

    Args:
        results: of the study.
        folder: its folder, where the runs are.
    """
    histories = read_histories(results.index, folder)
    return {
        axis: [
            _result(axis, results, lines),
            *(
                Plot(f"{what} over the epochs", f"curves/{slug(axis)}/{slug(what)}.svg", svg)
                for what, svg in training_plots(axis, results, histories)
            ),
        ]
        for axis, lines in results.axes().items()
    }


def _result(axis: str, results: StudyResults, lines: Sequence[Line]) -> Plot:
    metric = results.index.metric
    if axis in results.index.curves:
        svg = curve(axis, metric, results.base, lines)
    else:
        svg = heat_map(axis, metric, lines)
    return Plot(metric, f"{slug(axis)}.svg", svg)
