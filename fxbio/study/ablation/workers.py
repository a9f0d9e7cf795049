"""Runs of cells one after another, or in several processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fxbio.errors import TrainError
from fxbio.study.ablation.rows import Row
from fxbio.study.ablation.run_cell import CellRun, run_cell

__all__ = ["Stopped", "run_all"]


class Stopped(TrainError):
    """A study was stopped by a signal, and can go on."""


def run_all(tasks: Sequence[CellRun], jobs: int) -> Iterator[Row]:
    """The row of each run as it ends."""
    for task in tasks:
        yield run_cell(task)
