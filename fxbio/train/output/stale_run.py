"""A run that a signal ends before anything was trained."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from fxbio.train.distributed.launch import first_process
from fxbio.train.output.run_folder import RunFolder
from fxbio.train.output.status import Status, exit_code, write_status

__all__ = ["leave_unbegun"]


def leave_unbegun(run: RunFolder, number: int) -> int:
    """Say that nothing was trained, and write it down where there is no earlier run.

    Only the first process does so.

    Returns:
        The exit code.
    """
    code = exit_code("preempted", number)
    if not first_process():
        return code
    if run.unused:
        with suppress(OSError):  # the line below is said in any case
            run.path.mkdir(parents=True, exist_ok=True)
            write_status(run.status, Status("preempted", exit=code))
        said = "nothing was trained yet"
    else:
        said = f"nothing was trained now, '{run.path}' is as it was"
    print(f"{signal.Signals(number).name}: leaving, {said}", file=sys.stderr, flush=True)
    return code
