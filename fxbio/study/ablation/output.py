"""The files that a study ends in."""

from __future__ import annotations

from pathlib import Path

from fxbio.study.ablation.cells import slug
from fxbio.study.ablation.curve import curve
from fxbio.study.ablation.heat_map import heat_map
from fxbio.study.ablation.report import report
from fxbio.study.ablation.summary import StudyResults
from fxbio.study.ablation.tables import csv_text, latex, markdown
from fxbio.train.output.folder import write_text

__all__ = ["write_png", "write_results"]


def write_results(results: StudyResults, folder: Path) -> None:
    """Write the tables, the plots and the report of a study into its folder."""
    write_text(folder / "results.md", markdown(results))
    write_text(folder / "results.csv", csv_text(results))
    write_text(folder / "results.tex", latex(results))
    plots = _plots(results)
    for axis, plot in plots.items():
        write_text(folder / f"{slug(axis)}.svg", plot)
    study, picture = ((folder / name).read_text() for name in ("study.yaml", "base.svg"))
    write_text(folder / "report.html", report(results, plots, study, picture))


def write_png(results: StudyResults, folder: Path) -> None:
    """Write the plots as PNG too.

    Raises:
        ConfigError: when CairoSVG is not installed.
    """
    from fxbio.pictures.png import converter

    to_png = converter().svg2png
    for axis, plot in _plots(results).items():
        (folder / f"{slug(axis)}.png").write_bytes(to_png(bytestring=plot.encode(), scale=2))


def _plots(results: StudyResults) -> dict[str, str]:
    metric = results.index.metric
    return {
        name: curve(name, metric, results.base, lines)
        if name in results.index.curves
        else heat_map(name, metric, lines)
        for name, lines in results.axes().items()
    }
