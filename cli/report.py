"""``fxbio report``: the results of a study, rendered again."""

from __future__ import annotations

from pathlib import Path

import click

from fxbio.cli.console import log, print_json, print_result
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import NamedPath, json_option

__all__ = ["command"]


@click.command("report", short_help="Render the results of a study.", epilog=EXIT_CODES)
@click.argument("folder", type=NamedPath(path_type=Path))
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Write the tables, plots and report.html of a study again, also while it still runs.

    \b
    Examples:
      fxbio report studies/mnist5k-layers
      fxbio report studies/mnist5k-layers --json
    """
    from fxbio.study import load_results, write_results

    results = load_results(folder)
    write_results(results, folder)
    if as_json:
        print_json(results.records())
    else:
        print_result(results.render())
    log(f"tables and report: {folder}")
