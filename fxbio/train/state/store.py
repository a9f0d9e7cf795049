"""The checkpoints of a run: which are kept, which is the newest, which the best."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fxbio.errors import TrainError
from fxbio.files.atomic_file import atomic_link, remove_leftovers
from fxbio.train.state.checkpoint_files import (
    is_whole,
    remove_checkpoint,
    set_aside,
    write_checkpoint,
)

__all__ = ["CheckpointStore"]

_NAME = re.compile(r"step-[0-9]{8,19}\.pt")


class CheckpointStore:
    """``step-00000120.pt`` files, with ``last.pt`` and ``best.pt`` as links to two of them.

    One checkpoint at a time is written by a thread, while training goes on.

    Args:
        folder: made when the first one is written.
        keep: how many of the newest stay, besides the best.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, state: dict[str, Any], step: int, *, best: bool) -> None:
        """Write a checkpoint in the background; its tensors must not change any more.

        Raises:
            TrainError: when the one before could not be written.
        """
        self.finish()
        self._thread = threading.Thread(
            target=self._run, args=(state, step, best), name="checkpoint"
        )
        self._thread.start()

    def finish(self) -> None:
        """Wait for the one that is being written.

        Raises:
            TrainError: when it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raise what writing raised, without waiting.

        Raises:
            TrainError: when the last one could not be written.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error

    def all(self) -> list[Path]:
        """The files there are, newest first; those with another name were not written here."""
        found = (path for path in self.folder.glob("step-*.pt") if _NAME.fullmatch(path.name))
        return sorted(found, key=_step_of, reverse=True)

    def after(self, step: int) -> list[Path]:
        """The files of later steps."""
        return [path for path in self.all() if _step_of(path) > step]

    def newest(self, tell: Callable[[str], None]) -> Path | None:
        """The newest one that is whole; those that are not are told of."""
        for path in self.all():
            if is_whole(path):
                return path
            tell(f"the checkpoint {path.name} is damaged or incomplete, taking the one before")
        return None

    def go_on_from(self, path: Path | None, step: int, *, best: bool) -> None:
        """Undo what was half done when the run was killed.

        Args:
            path: the checkpoint that it goes on from, here or elsewhere.
            step: of that; later ones are damaged, and put aside.
            best: whether that is the best so far.
        """
        for damaged in self.after(step):
            set_aside(damaged)
        remove_leftovers(self.folder)
        for checksum in self.folder.glob("*.sha256"):
            if not checksum.with_suffix("").exists():
                checksum.unlink()
        if path is not None and path.resolve().parent == self.folder.resolve():
            self._link_to(path.resolve(), best)

    def _run(self, state: dict[str, Any], step: int, best: bool) -> None:
        try:
            self._write(state, step, best)
        except BaseException as error:  # handed over to the training thread
            self._error = error

    def _write(self, state: dict[str, Any], step: int, best: bool) -> None:
        path = self.folder / f"step-{step:08d}.pt"
        try:
            self.folder.mkdir(exist_ok=True)  # without parents: a run that was removed is over
            write_checkpoint(state, path)
            self._link_to(path, best)
            self._prune()
        except OSError as error:
            raise TrainError(
                f"checkpoints cannot be kept in '{self.folder}': {error}",
                notes=["it has to be a folder that this process may write to"],
                help="put that right, then continue with --resume auto",
            ) from error

    def _link_to(self, path: Path, best: bool) -> None:
        for name in ("last.pt", "best.pt") if best else ("last.pt",):
            atomic_link(self.folder / name, path.name)

    def _prune(self) -> None:
        best = (self.folder / "best.pt").resolve()
        for path in self.all()[self.keep :]:
            if path.resolve() != best:
                remove_checkpoint(path)


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
