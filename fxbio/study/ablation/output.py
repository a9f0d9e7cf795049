"""The files that a study ends in."""

from __future__ import annotations

from pathlib import Path

from fxbio.study.ablation.folder import StudyFolder
from fxbio.study.ablation.markdown import markdown
from fxbio.study.ablation.plots import plots_of
from fxbio.study.ablation.report import report
from fxbio.study.ablation.summary import StudyResults
from fxbio.study.ablation.tables import csv_text, latex
from fxbio.train.output.folder import write_text

__all__ = ["write_png", "write_results"]


def write_results(results: StudyResults, folder: Path) -> None:
    """Write the tables, the plots and the report of a study into its folder."""
    plots = plots_of(results, StudyFolder(folder))
    for plot in (plot for of_axis in plots.values() for plot in of_axis):
        path = folder / plot.path
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, plot.svg)
    write_text(folder / "results.md", markdown(results, plots))
    write_text(folder / "results.csv", csv_text(results))
    write_text(folder / "results.tex", latex(results))
    study, picture = ((folder / name).read_text() for name in ("study.yaml", "base.svg"))
    write_text(folder / "report.html", report(results, plots, study, picture))


def write_png(results: StudyResults, folder: Path) -> None:
    """Write the plots as PNG too, each beside its SVG.

    Raises:
        ConfigError: when CairoSVG is not installed.
    """
    from fxbio.pictures.png import converter

    to_png = converter().svg2png
    for plots in plots_of(results, StudyFolder(folder)).values():
        for plot in plots:
            path = (folder / plot.path).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(to_png(bytestring=plot.svg.encode(), scale=2))
