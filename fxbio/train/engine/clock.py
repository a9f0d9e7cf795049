"""Speed of a run, and the share of its time that it waits for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fxbio.train.engine.trainer_state import TrainerState
from fxbio.train.output.progress import StepReport

__all__ = ["Clock"]

MEMORY = 0.95
"""Weight of the past in the smoothed step time."""

LATE, FAR = 20.0, 10.0
"""Seconds, and steps like those before, after which a step is told of."""


class Clock:
    """Measures steps; evaluation and writing are between them and do not count."""

    def __init__(self) -> None:
        self.step_seconds = 0.0
        self.wait_seconds = 0.0
        self.in_step = False
        """Not in evaluations, which take as long as they take."""
        self._started = time.perf_counter()
        self._waited = 0.0

    def restart(self) -> None:
        """Begin a step."""
        self._started, self._waited = time.perf_counter(), 0.0

    def elapsed(self) -> float:
        """Seconds since the step began."""
        return time.perf_counter() - self._started

    def is_late(self) -> bool:
        """True if this step takes far longer than those before."""
        return self.in_step and self.too_long(self.elapsed())

    def too_long(self, seconds: float) -> bool:
        """True if no step should take that time, as far as those before tell."""
        return seconds > max(LATE, FAR * self.step_seconds)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def tick(self) -> None:
        """End a step, and begin the next."""
        seconds = time.perf_counter() - self._started
        past = MEMORY if self.step_seconds else 0.0
        self.step_seconds = past * self.step_seconds + (1 - past) * seconds
        self.wait_seconds = past * self.wait_seconds + (1 - past) * self._waited
        self.restart()

    def report(self, trainer: TrainerState, loss: float) -> StepReport:
        """Averages since the last report."""
        progress, train = trainer.progress, trainer.recipe.train
        seconds = max(self.step_seconds, 1e-9)
        return StepReport(
            step=progress.step,
            epoch=trainer.epochs,
            loss=loss,
            lr=trainer.optimizer.param_groups[0]["lr"],
            rate=train.batch_size / seconds,
            waiting=self.wait_seconds / seconds,
            remaining=(trainer.steps - progress.step) * seconds,
        )
