"""``fxbio report``: the results of a study, rendered again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxbio.cli.console import log, print_json, print_result
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import NamedPath, json_option

if TYPE_CHECKING:
    from fxbio.study.plots import PlotFormat

__all__ = ["command"]


@click.command("report", short_help="Render the results of a study.", epilog=EXIT_CODES)
@click.argument("folder", type=NamedPath(path_type=Path))
@click.option(
    "--format",
    "formats",
    type=click.Choice(["pdf", "png"]),
    multiple=True,
    help="Write the plots in this format too, beside SVG.",
)
@click.option(
    "--width",
    type=click.FloatRange(6, 100),
    default=17.0,
    show_default=True,
    metavar="CM",
    help="Width of the plots in cm: 8.5 for one column of two, for instance.",
)
@click.option("--percent", is_flag=True, help="Show the metric in percent.")
@json_option
def command(
    folder: Path,
    formats: tuple[PlotFormat, ...],
    width: float,
    percent: bool,
    as_json: bool,
) -> None:
    """Write the tables, plots and report.html of a study again, also while it still runs.

    Plots need fxbio[plots], which is matplotlib; all else is written without it, too.

    \b
    Examples:
      fxbio report studies/mnist5k-layers
      fxbio report studies/mnist5k-layers --format pdf --width 8.5 --percent
      fxbio report studies/mnist5k-layers --json
    """
    from fxbio.study import PlotOptions, load_results, write_results

    results = load_results(folder)
    write_results(results, folder, PlotOptions(formats, width, percent), tell=log)
    if as_json:
        print_json(results.records())
    else:
        print_result(results.render())
    log(f"tables and report: {folder}")
