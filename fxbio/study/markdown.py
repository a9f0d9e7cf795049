"""The results of a study as a Markdown document, which shows the plots beside it."""

from __future__ import annotations

from fxbio.study.plots import Plots
from fxbio.study.result_tables import LEGEND, Table, tables
from fxbio.study.summary import StudyResults

__all__ = ["markdown"]


def markdown(results: StudyResults, plots: Plots) -> str:
    """A document with a table and the plots of each axis."""
    parts = [f"# {results.index.name}", results.caption() + "."]
    for table in tables(results):
        shown = plots.get(table.name, ())
        parts += [f"## {table.name}", _markdown_table(table)]
        parts += [f"![{table.name}: {plot.what}]({plot.path})" for plot in shown]
    return "\n\n".join([*parts, LEGEND]) + "\n"


def _markdown_table(table: Table) -> str:
    rows = [
        table.headings,
        tuple("---:" if number else "---" for number in table.numbers),
        *(tuple(cell.replace("|", "\\|") for cell in row) for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
