"""The files that a study ends in."""

from __future__ import annotations

from pathlib import Path

from fxbio.errors import RecordError
from fxbio.files.reading import read_text
from fxbio.study.html_report import report
from fxbio.study.markdown import markdown
from fxbio.study.plots import Plots, plots_of
from fxbio.study.result_tables import csv_text, latex
from fxbio.study.study_folder import StudyFolder
from fxbio.study.summary import StudyResults
from fxbio.train.output.run_folder import write_text

__all__ = ["write_results"]


def write_results(results: StudyResults, folder: Path, *, png: bool = False) -> None:
    """Write the tables, the plots and the report of a study into its folder.

    Args:
        results: of the study.
        folder: of the study.
        png: whether each plot is written as PNG too, beside its SVG.

    Raises:
        ConfigError: when PNG is wanted and CairoSVG is not installed; all else is written then.
    """
    plots = plots_of(results, StudyFolder(folder))
    for plot in (plot for of_axis in plots.values() for plot in of_axis):
        path = folder / plot.path
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, plot.svg)
    write_text(folder / "results.md", markdown(results, plots))
    write_text(folder / "results.csv", csv_text(results))
    write_text(folder / "results.tex", latex(results))
    study, picture = (_text(folder / name) for name in ("study.yaml", "base.svg"))
    write_text(folder / "report.html", report(results, plots, study, picture))
    if png:
        _write_png(plots, folder)


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"'{path}' cannot be read: {error}",
            help="the same fxbio ablate writes it anew; what is done is not done again",
        ) from error


def _write_png(plots: Plots, folder: Path) -> None:
    from fxbio.viz.png import converter

    to_png = converter().svg2png
    for plot in (plot for of_axis in plots.values() for plot in of_axis):
        path = (folder / plot.path).with_suffix(".png")
        path.write_bytes(to_png(bytestring=plot.svg.encode(), scale=2))
