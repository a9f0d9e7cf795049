"""Runs of cells one after another, or in several processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from fxbio.errors import Stopped
from fxbio.study.rows import Row
from fxbio.study.run_cell import CellRun, run_cell
from fxbio.train.distributed.signals import StopFlag, watch_signals
from fxbio.train.output.status import exit_code

__all__ = ["run_all"]

_LOOK = 0.5
"""Seconds between looks at whether the study was asked to stop."""


def run_all(
    tasks: Sequence[CellRun], jobs: int, tell: Callable[[str], None]
) -> Generator[Row, None, None]:
    """The row of each run as it ends.

    Args:
        tasks: in the order in which they begin.
        jobs: processes; with one, runs take place in this one.
        tell: shows a line to the user.

    Raises:
        Stopped: when a signal asked for it.
    """
    with watch_signals(tell) as stop:
        if jobs > 1 and len(tasks) > 1:
            yield from _in_processes(tasks, min(jobs, len(tasks)), stop)
            return
        for task in tasks:
            row = run_cell(task)
            if row.state != "preempted":
                yield row
            if stop or row.state == "preempted":
                raise _stopped(stop)


def _stopped(stop: StopFlag) -> Stopped:
    return Stopped(
        "the study was stopped; what was being trained is saved",
        exit=exit_code("preempted", stop.signal),
        help="go on with the same command",
    )


class _Worker:
    """A process that carries out one run after another."""

    def __init__(self, threads: int) -> None:
        # spawn: torch's threads do not survive a fork
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, threads))
        self.process.start()
        theirs.close()  # or the end of the process would not be seen here
        self.task: CellRun | None = None

    def give(self, task: CellRun) -> None:
        """Have a run carried out."""
        self.task = task
        self.pipe.send(task)

    def take(self) -> Row:
        """The row of that run, or one that says that the process died in it."""
        assert self.task is not None
        task, self.task = self.task, None
        try:
            row: Row = self.pipe.recv()
            return row
        except EOFError:
            self.process.join()
            error = f"its process died with exit code {self.process.exitcode}; often memory ran out"
            return Row(task.run, task.seed, "failed", error=error)

    def end(self) -> None:
        """Have it leave; a run that goes on is saved first."""
        self.pipe.close()
        if self.task is not None:
            self.process.terminate()
        self.process.join()


def _in_processes(
    tasks: Sequence[CellRun], jobs: int, stop: StopFlag
) -> Generator[Row, None, None]:
    waiting = deque(tasks)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    crew: list[_Worker] = []
    try:
        while waiting or crew:
            while waiting and len(crew) < jobs:
                crew.append(_Worker(threads))
                crew[-1].give(waiting.popleft())
            ready = _ready(crew)
            if stop:  # whoever died of the same signal has not failed
                raise _stopped(stop)
            for worker in ready:
                row = worker.take()
                if row.state == "preempted":
                    raise _stopped(stop)
                yield row
                _give_next(worker, waiting, crew)
    finally:
        for worker in crew:
            worker.end()


def _ready(crew: list[_Worker]) -> list[_Worker]:
    """Those that have a row, or have died."""
    ready: list[Any] = wait([worker.pipe for worker in crew], _LOOK)
    return [worker for worker in crew if worker.pipe in ready]


def _give_next(worker: _Worker, waiting: deque[CellRun], crew: list[_Worker]) -> None:
    if waiting and worker.process.is_alive():
        worker.give(waiting.popleft())
        return
    crew.remove(worker)
    worker.end()


def _serve(pipe: Connection, threads: int) -> None:
    """The life of a worker."""
    os.setpgrp()  # Ctrl-C is for the parent, which then asks each worker once
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    try:
        while True:
            pipe.send(run_cell(pipe.recv()))
    except (EOFError, BrokenPipeError):
        return  # there is nothing more to do


def _leave_with_parent() -> None:
    """A parent that was killed could start this run again: save and leave."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
