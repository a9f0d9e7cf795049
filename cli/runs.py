"""``fxbio runs``: a table of runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxbio.cli.console import log, print_json, print_result
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import NamedPath, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

    from fxbio.train.output.listing import Listed

__all__ = ["command"]


@click.command("runs", short_help="List runs and how they stand.", epilog=EXIT_CODES)
@click.argument(
    "folder",
    metavar="[FOLDER]",
    default="runs",
    type=NamedPath(exists=True, file_okay=False, path_type=Path),
)
@json_option
def command(folder: Path, as_json: bool) -> None:
    """List the runs below a folder, by default below runs/: state, progress and metrics.

    A run is killed when its process has ended without a word; --resume auto continues it. It is
    silent when its process is there, but has not got on for a minute: its log says what it waits
    for. One on another machine is told by what it has written last.

    \b
    Examples:
      fxbio runs
      fxbio runs /scratch/runs --json
    """
    from fxbio.train.output.listing import list_runs

    runs = list_runs(folder)
    if as_json:
        print_json([{**asdict(run), "path": str(run.path)} for run in runs])
    elif runs:
        print_result(_table(runs))
    else:
        log(f"there are no runs in '{folder}'")


def _table(runs: Sequence[Listed]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("run", "state", "step", "epoch", "best", "metrics", "written", "error"):
        table.add_column(column, overflow="fold")
    for run in runs:
        table.add_row(*_cells(run))
    return table


def _cells(run: Listed) -> Iterator[str]:
    status = run.status
    yield run.name
    yield run.state
    yield f"{status.step}/{status.steps}" if status.steps else ""
    yield str(status.epoch) if status.steps else ""
    yield "" if status.best is None else f"{status.best:.4f}"
    yield "  ".join(
        f"{key} {value:.4g}" for key, value in status.metrics.items() if key != "samples"
    )
    yield f"{run.age} ago"
    yield (status.error or "").partition("\n")[0]
