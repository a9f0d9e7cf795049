"""One run of a cell: trained, measured, and told in a row."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from fxbio.errors import FxbioError
from fxbio.study.rows import Row
from fxbio.train.config import load_recipe
from fxbio.train.engine.divergence import Diverged
from fxbio.train.engine.run import train
from fxbio.train.output.run_folder import RunFolder
from fxbio.train.output.status import State, read_status

__all__ = ["CellRun", "run_cell"]


@dataclass(frozen=True)
class CellRun:
    """Orders for a process."""

    run: str
    seed: int
    folder: Path
    """It has ``recipe.yaml`` and ``policy.yaml``; the run itself goes to ``run`` inside."""


def run_cell(task: CellRun) -> Row:
    """Train a cell with one seed, or go on where that was stopped. A failure is a row too.

    What the trainer says goes to the ``log.txt`` of the run.
    """
    began = time.perf_counter()
    run = RunFolder(task.folder / "run")
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
            state = _train(task, run)
        return _row(task, run, state, began)
    except Diverged as error:
        return _row(task, run, "diverged", began, str(error))
    except Exception as error:  # models, rules and data are the user's code
        text = str(error) if isinstance(error, FxbioError) else f"{type(error).__name__}: {error}"
        return _row(task, run, "failed", began, text)


def _train(task: CellRun, run: RunFolder) -> State:
    status = read_status(run.status)
    if status is not None and status.state == "done":
        return "done"  # it was killed before it could write the row
    if run.path.exists() and not run.config.exists():
        shutil.rmtree(run.path)  # killed before the run had begun
    return train(load_recipe(task.folder / "recipe.yaml"), run.path, resume="auto").state


def _row(
    task: CellRun, run: RunFolder, state: State, began: float, error: str | None = None
) -> Row:
    status = read_status(run.status)
    return Row(
        run=task.run,
        seed=task.seed,
        state=state,
        metrics={} if status is None else status.metrics,
        step=0 if status is None else status.step,
        angle=status.angle if status is not None and state == "done" else None,
        seconds=round(time.perf_counter() - began, 3),
        error=error,
    )
