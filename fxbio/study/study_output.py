"""The files that a study ends in."""

from __future__ import annotations

from pathlib import Path

from fxbio.errors import RecordError
from fxbio.files.reading import read_text
from fxbio.study.html_report import report
from fxbio.study.markdown import markdown
from fxbio.study.plots import plots_of
from fxbio.study.result_tables import csv_text, latex
from fxbio.study.study_folder import StudyFolder
from fxbio.study.summary import StudyResults
from fxbio.train.output.run_folder import write_text

__all__ = ["write_results"]


def write_results(results: StudyResults, folder: Path) -> None:
    """Write the tables, the plots and the report of a study into its folder.

    Args:
        results: of the study.
        folder: of the study.
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


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"'{path}' cannot be read: {error}",
            help="the same fxbio ablate writes it anew; what is done is not done again",
        ) from error
