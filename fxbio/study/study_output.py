"""The files that a study ends in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fxbio.errors import ConfigError, RecordError
from fxbio.files.reading import read_json, read_text
from fxbio.study.cells import BASE
from fxbio.study.plots import PlotOptions, plots_missing, plots_of
from fxbio.study.reports import html, markdown
from fxbio.study.result_tables import csv_text, latex
from fxbio.study.study_folder import StudyFolder
from fxbio.study.summary import StudyResults
from fxbio.train.output.run_folder import write_bytes, write_text

__all__ = ["write_results"]


def write_results(
    results: StudyResults,
    folder: Path,
    options: PlotOptions | None = None,
    *,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Write the tables, the plots and the report of a study into its folder.

    Args:
        results: of the study.
        folder: of the study.
        options: of the plots; by default SVG of 17 cm.
        tell: is told where there are no plots, and what to install.

    Raises:
        ConfigError: when plots are asked for in a format and there is no matplotlib; all else is
            written then.
    """
    options, missing = options or PlotOptions(), plots_missing()
    plots = {} if missing else plots_of(results, StudyFolder(folder), options)
    for plot in (plot for of_axis in plots.values() for plot in of_axis):
        for ending, content in plot.files.items():
            path = folder / f"{plot.path}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, content)
    write_text(folder / "results.md", markdown(results, plots, percent=options.percent))
    write_text(folder / "results.csv", csv_text(results))
    write_text(folder / "results.tex", latex(results, percent=options.percent))
    study, picture = (_text(folder / name) for name in ("study.yaml", "base.svg"))
    versions = _versions(results, StudyFolder(folder))
    page = html(results, plots, study, picture, versions, percent=options.percent)
    write_text(folder / "report.html", page)
    if missing and options.formats:
        raise ConfigError(missing)
    if missing:
        tell(f"note: {missing}")


def _versions(results: StudyResults, folder: StudyFolder) -> str:
    """On what the first run of the base was made, where it says so."""
    path = folder.cell(BASE, results.index.seeds[0]) / "run" / "env.json"
    try:
        found = read_json(path)
        names = ("fxbio", "torch", "torchvision", "python")
        parts = [*(f"{name} {found[name]}" for name in names), found["platform"], *found["gpus"]]
        return ", ".join(map(str, parts))
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(
            f"'{path}' cannot be read: {error}",
            help="the same fxbio ablate writes it anew; what is done is not done again",
        ) from error
