"""Progress display of a run: a live line on a terminal, now and then a line in a pipe."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from fxbio.files.reading import open_to_append

__all__ = ["LineView", "LiveView", "NoView", "StepReport", "View", "make_view"]

SECONDS = 5.0
"""Between two lines in a pipe."""


@dataclass(frozen=True)
class StepReport:
    """Averages of training since the last report."""

    step: int
    epoch: float
    loss: float
    lr: float
    rate: float
    """Images per second of all processes."""
    waiting: float
    """Share of the time that was spent waiting for data."""
    remaining: float
    """Seconds."""

    def __str__(self) -> str:
        """One line; the most important comes first, for a narrow terminal cuts the rest off."""
        return (
            f"epoch {self.epoch:.2f}  loss {self.loss:.4f}  eta {duration(self.remaining)}  "
            f"lr {self.lr:.3g}  {self.rate:,.0f} img/s  data {self.waiting:.0%}  {memory_text()}"
        )


class View(Protocol):
    """Display of a run."""

    def say(self, text: str) -> None:
        """A line to keep."""

    def step(self, report: StepReport) -> None:
        """Training goes on; called often."""

    def evaluating(self, done: int, total: int) -> None:
        """Evaluation goes on."""

    def close(self) -> None:
        """Nothing more will come."""


class NoView:
    """Of the processes that do not write."""

    def say(self, text: str) -> None:
        """Nothing."""

    def step(self, report: StepReport) -> None:
        """Nothing."""

    def evaluating(self, done: int, total: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class LineView:
    """Plain lines on stderr, and the same in ``log.txt``."""

    def __init__(self, steps: int, log: Path | None) -> None:
        self.steps = steps
        self._log = open_to_append(log) if log else None
        self._last = 0.0

    def say(self, text: str) -> None:
        """Print and keep."""
        self._print(text)
        self._keep(text)

    def step(self, report: StepReport) -> None:
        """A line every few seconds."""
        if time.monotonic() - self._last < SECONDS and report.step != self.steps:
            return
        self._last = time.monotonic()
        self.say(f"step {report.step}/{self.steps}  {report}")

    def evaluating(self, done: int, total: int) -> None:
        """Evaluations are told of when they are done."""

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _keep(self, text: str) -> None:
        if self._log is not None:
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


class LiveView(LineView):
    """A bar that moves on a terminal; the log gets the lines."""

    def __init__(self, steps: int, log: Path | None, console: Console) -> None:
        super().__init__(steps, log)
        columns = (BarColumn(20), TextColumn("{task.completed}/{task.total}  {task.description}"))
        self._progress = Progress(*columns, console=console, transient=True, refresh_per_second=4)
        self._bar: TaskID = self._progress.add_task("", total=steps)
        self._progress.start()

    def step(self, report: StepReport) -> None:
        """Move the bar."""
        self._progress.update(self._bar, completed=report.step, description=str(report))
        if time.monotonic() - self._last >= SECONDS:
            self._last = time.monotonic()
            self._keep(f"step {report.step}/{self.steps}  {report}")

    def evaluating(self, done: int, total: int) -> None:
        """Say how far it is."""
        self._progress.update(self._bar, description=f"evaluating {done}/{total}")

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()
        super().close()

    def _print(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)


def make_view(steps: int, log: Path | None) -> View:
    """The one that fits where stderr goes."""
    console = Console(stderr=True)
    return LiveView(steps, log, console) if console.is_terminal else LineView(steps, log)


def say_anywhere(view: View, text: str) -> None:
    """Say it also in a process that shows nothing, when the one that does may be silent."""
    if isinstance(view, NoView):
        print(text, file=sys.stderr, flush=True)
    else:
        view.say(text)


def duration(seconds: float) -> str:
    """``1:02:03``, ``4:05``."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def memory_text() -> str:
    """The most memory that was in use so far: of the device, or of this process."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.1f} GiB"


def metrics_text(metrics: Mapping[str, float]) -> str:
    """``top1 0.912  top5 0.998  (360 samples)``."""
    parts = [f"{key} {value:.4f}" for key, value in metrics.items() if key != "samples"]
    return f"{'  '.join(parts)}  ({metrics.get('samples', 0):.0f} samples)"
