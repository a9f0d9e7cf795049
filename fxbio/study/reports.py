"""The results of a study as documents: Markdown, and one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import re
from importlib import resources

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fxbio.study.plots import Plot, Plots
from fxbio.study.result_tables import LEGEND, Table, tables
from fxbio.study.summary import StudyResults

__all__ = ["html", "markdown"]

_LARGEST = 60_000
"""Characters of a plan's picture that the page still takes in."""


def markdown(results: StudyResults, plots: Plots, *, percent: bool = False) -> str:
    """A document with a table and the plots of each axis."""
    parts = [f"# {results.index.name}", results.caption() + "."]
    for table in tables(results, percent=percent):
        shown = plots.get(table.name, ())
        parts += [f"## {table.name}", _markdown_table(table)]
        parts += [f"![{table.name}: {plot.what}]({plot.path}.svg)" for plot in shown]
    return "\n\n".join([*parts, LEGEND]) + "\n"


def _markdown_table(table: Table) -> str:
    rows = [
        table.headings,
        tuple("---:" if number else "---" for number in table.numbers),
        *(tuple(cell.replace("|", "\\|") for cell in row) for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def html(
    results: StudyResults,
    plots: Plots,
    study: str,
    picture: str,
    versions: str = "",
    *,
    percent: bool = False,
) -> str:
    """The page.

    Args:
        results: of the study.
        plots: of each axis, by its name.
        study: text of the study file.
        picture: SVG of the base's plan, which is left out where it is very large.
        versions: on what it was run.
        percent: whether the metric is shown in percent.
    """
    template = resources.files("fxbio.study").joinpath("report.html.j2")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    index = results.index
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        results=results,
        index=index,
        tables=tables(results, percent=percent),
        legend=LEGEND,
        plots=plots,
        inline=_inline,
        picture=_as_image(picture) if len(picture) < _LARGEST else "",
        done=sum(row.state == "done" for row in results.rows),
        total=len({cell.run for cell in index.cells}) * len(index.seeds),
        bad=[row for row in results.rows if row.state != "done"],
        policies={cell.run: cell.policy for cell in index.cells},
        study=study,
        recipe=yaml.safe_dump(index.recipe, sort_keys=False, allow_unicode=True, width=100),
        versions=versions,
    )


def _inline(plot: Plot) -> Markup:
    """A plot as a part of the page, whose text can be found and copied."""
    svg = plot.files["svg"].decode()
    return Markup(re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :], count=2))


def _as_image(svg: str) -> str:
    """An address that holds the picture itself, whose styles then stay its own."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
