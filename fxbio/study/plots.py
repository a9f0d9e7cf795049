"""The plots of a study as files. Without matplotlib there are none, and all else of a study is."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fxbio.study.study_folder import StudyFolder
from fxbio.study.summary import StudyResults

__all__ = ["Plot", "PlotFormat", "PlotOptions", "Plots", "plots_missing", "plots_of"]

PlotFormat = Literal["pdf", "png"]


@dataclass(frozen=True)
class PlotOptions:
    """Format of plots."""

    formats: Sequence[PlotFormat] = ()
    """Beside SVG, which the report shows."""
    width: float = 17.0
    """In cm."""
    percent: bool = False
    """Whether the metric is shown in percent, in the tables too."""


@dataclass(frozen=True)
class Plot:
    """A picture of one axis."""

    what: str
    """What it shows."""
    path: str
    """Its file in the folder of the study, without the ending."""
    files: Mapping[str, bytes]
    """The content by format, ``svg`` always among them."""


Plots = Mapping[str, Sequence[Plot]]
"""The plots of each axis: of its results first, then how they came about."""


def plots_missing() -> str | None:
    """Reason why no plot can be drawn, and what to install; ``None`` where they can."""
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as error:
        return f"no plots, for matplotlib cannot be imported ({error}): pip install 'fxbio[plots]'"
    return None


def plots_of(results: StudyResults, folder: StudyFolder, options: PlotOptions) -> Plots:
    """The plots of a study, whole or not.

    Args:
        results: of the study.
        folder: its folder, where the runs are.
        options: of formats and size.

    Raises:
        ImportError: without matplotlib.
    """
    from fxbio.study.charts import chart_style, rendered
    from fxbio.study.figures import figures

    found: dict[str, list[Plot]] = {}
    with chart_style():
        for axis, what, path, figure in figures(results, folder, options.width, options.percent):
            title = f"{results.index.name}, {axis}: {what}"
            files = {f: rendered(figure, f, title) for f in ("svg", *options.formats)}
            found.setdefault(axis, []).append(Plot(what, path, files))
    return found
