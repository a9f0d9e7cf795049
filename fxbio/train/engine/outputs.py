"""All that the first process writes and shows; the others have one that does nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from fxbio.analysis.alignment import feedback_angle
from fxbio.errors import TrainError
from fxbio.train.engine.trainer_state import TrainerState
from fxbio.train.output.metrics import MetricsFile
from fxbio.train.output.presence import Presence
from fxbio.train.output.process import this_process
from fxbio.train.output.progress import NoView, View
from fxbio.train.output.run_folder import RunFolder, write_text
from fxbio.train.output.status import State, Status, write_status
from fxbio.train.state.store import CheckpointStore

__all__ = ["Outputs"]

WARMUP_STEPS = 3
"""Steps before a profile begins."""


class Outputs:
    """Checkpoints, metrics, status and view of one process.

    Args:
        folder: of the run; ``None`` on the processes that write nothing.
        view: where the run is shown.
        metrics: where numbers go.
        store: where checkpoints go.
    """

    def __init__(
        self,
        folder: RunFolder | None = None,
        view: View | None = None,
        metrics: MetricsFile | None = None,
        store: CheckpointStore | None = None,
    ) -> None:
        self.folder, self.view = folder, view or NoView()
        self._metrics, self._store = metrics, store
        self._presence = Presence(folder) if folder else None

    @property
    def path(self) -> Path | None:
        """The folder, on the process that writes."""
        return self.folder.path if self.folder else None

    def check_folder(self) -> None:
        """See that nobody removed, moved or replaced the folder.

        Raises:
            FolderLostError: when somebody did.
        """
        if self._presence is not None:
            self._presence.check()

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """A line of metrics."""
        if self._metrics is not None:
            self._metrics.write(kind, step, values)

    def write_predictions(self, predictions: list[dict[str, Any]]) -> None:
        """``predictions.json``, where a task gives any."""
        if self.folder is not None and predictions:
            write_text(self.folder.path / "predictions.json", json.dumps(predictions))

    def save(self, state: dict[str, Any], step: int, *, best: bool) -> None:
        """A checkpoint, in the background.

        Raises:
            TrainError: when the one before could not be written, or the folder is lost.
        """
        self.check_folder()
        if self._store is not None:
            self._store.save(state, step, best=best)

    def check(self) -> None:
        """Raise what went wrong in the background.

        Raises:
            TrainError: when a checkpoint could not be written.
        """
        if self._store is not None:
            self._store.check()

    def finish_saving(self) -> None:
        """Wait for the checkpoint that is being written.

        Raises:
            TrainError: when it could not be written.
        """
        if self._store is not None:
            self._store.finish()

    def tell_status(
        self, state: State, trainer: TrainerState, error: str | None = None, exit: int | None = None
    ) -> None:
        """``status.json``.

        Raises:
            FolderLostError: when the folder is not that of this run any more.
        """
        if self.folder is None:
            return
        self.check_folder()
        progress = trainer.progress
        last = self.folder.checkpoints / "last.pt"
        status = Status(
            state=state,
            step=progress.step,
            steps=trainer.steps,
            epoch=int(trainer.epochs),
            checkpoint=f"checkpoints/{last.resolve().name}" if last.exists() else None,
            metrics=progress.metrics,
            best=progress.best,
            error=error,
            exit=exit,
            process=this_process(),
            angle=feedback_angle(trainer.model) if state == "done" else None,
        )
        write_status(self.folder.status, status)

    @contextmanager
    def profiling(self, steps: int) -> Iterator[Callable[[], None]]:
        """Profile some steps; call what it gives after each step."""
        if not steps or self.folder is None:
            yield lambda: None
            return
        target = self.folder.path / "trace.json"
        schedule = torch.profiler.schedule(wait=0, warmup=WARMUP_STEPS, active=steps, repeat=1)
        with torch.profiler.profile(
            schedule=schedule, on_trace_ready=lambda p: p.export_chrome_trace(str(target))
        ) as profiler:
            yield profiler.step

    def close(self) -> None:
        """Finish files and view; an earlier error is not replaced by one of these."""
        with suppress(TrainError):
            self.finish_saving()
        with suppress(OSError):
            if self._metrics is not None:
                self._metrics.close()
        with suppress(OSError):
            self.view.close()
