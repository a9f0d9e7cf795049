"""The results of a study as a Markdown document, which shows the plots beside it."""

from __future__ import annotations

from collections.abc import Sequence

from fxbio.study.ablation.plots import Plots
from fxbio.study.ablation.summary import Line, StudyResults
from fxbio.study.ablation.tables import LEGEND, NUMBERS, cells_of, columns_of, tables

__all__ = ["markdown"]


def markdown(results: StudyResults, plots: Plots) -> str:
    """A document with a table and the plots of each axis."""
    parts = [f"# {results.index.name}", results.caption() + "."]
    for name, lines in tables(results):
        parts += [f"## {name}", _markdown_table(results, lines)]
        parts += [f"![{name}: {plot.what}]({plot.path})" for plot in plots.get(name, ())]
    return "\n\n".join([*parts, LEGEND]) + "\n"


def _markdown_table(results: StudyResults, lines: Sequence[Line]) -> str:
    rows = [
        columns_of(results.index.metric),
        tuple("---:" if number else "---" for number in NUMBERS),
        *(tuple(cell.replace("|", "\\|") for cell in cells_of(line)) for line in lines),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
