"""Is a run still going on? From its status, its process, and when it was written to last."""

from __future__ import annotations

import os
import time
from pathlib import Path

from fxbio.errors import ConfigError
from fxbio.train.output.process import is_gone, is_here
from fxbio.train.output.run_folder import RunFolder
from fxbio.train.output.status import Status, read_status

__all__ = ["check_not_running", "observed_state", "written"]

SILENT = 60.0
"""Seconds without a sign of life. A run that gets on gives one much more often."""


def observed_state(status: Status, path: Path) -> str:
    """The state in a status file, or what can be seen of it.

    Returns:
        ``killed`` where the process has ended without a word, ``silent`` where it is there and
        does not get on, and ``running on HOST`` or ``silent on HOST`` where it is elsewhere.
    """
    if status.state != "running":
        return status.state
    here = is_here(status.process)
    if here and is_gone(status.process):
        return "killed"
    silent = time.time() - written(path) > SILENT
    place = "" if here else f" on {status.process.get('host', 'an unknown machine')}"
    return ("silent" if silent else "running") + place


def written(status: Path) -> float:
    """Time of the last write to a run, in seconds since the epoch, by the path of its status."""
    run = RunFolder(status.parent)
    there = [file for file in (status, run.metrics, run.log) if file.exists()]
    return max(file.stat().st_mtime for file in there)


def check_not_running(run: RunFolder, overwrite: bool) -> None:
    """Refuse to write where another process does.

    One on another machine cannot be looked after: what it has written in the last minute is not
    removed, but a run may go on here, as it does when a scheduler has moved it.

    Raises:
        ConfigError: when the run in the folder goes on.
    """
    status = read_status(run.status)
    if status is None or status.state != "running":
        return
    process = status.process
    state = observed_state(status, run.status)
    if state == "killed" or process.get("pid") == os.getpid():
        return
    if not is_here(process) and (not overwrite or state.startswith("silent")):
        return
    what = "overwritten" if overwrite else "continued"
    raise ConfigError(
        f"the run in '{run.path}' goes on, and cannot be {what} meanwhile",
        notes=[f"it is {state}, in process {process.get('pid')}, at step {status.step}"],
        help=f"stop it first: kill {process.get('pid')}, or choose another folder: --out runs/NAME",
    )
