"""The results of a study as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fxbio.study.plots import Plots
from fxbio.study.result_tables import LEGEND, tables
from fxbio.study.summary import StudyResults

__all__ = ["report"]

_LARGEST = 60_000
"""Characters of a plan's picture that the page still takes in."""


def report(results: StudyResults, plots: Plots, study: str, picture: str) -> str:
    """The page.

    Args:
        results: of the study.
        plots: of each axis, by its name.
        study: text of the study file.
        picture: SVG of the base's plan, which is left out where it is very large.
    """
    template = resources.files("fxbio.study").joinpath("report.html.j2")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    index = results.index
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        results=results,
        index=index,
        tables=tables(results),
        legend=LEGEND,
        plots=plots,
        inline=_inline,
        picture=_as_image(picture) if len(picture) < _LARGEST else "",
        done=sum(row.state == "done" for row in results.rows),
        total=len({cell.run for cell in index.cells}) * len(index.seeds),
        bad=[row for row in results.rows if row.state != "done"],
        policies={cell.run: cell.policy for cell in index.cells},
        study=study,
    )


def _inline(svg: str) -> Markup:
    """A plot as a part of the page, so that the titles of its shapes show."""
    return Markup(svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1))


def _as_image(svg: str) -> str:
    """An address that holds the picture itself, whose styles then stay its own."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
