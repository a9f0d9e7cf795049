"""The folder of a run may be removed, moved or replaced while it is written to."""

from __future__ import annotations

from fxbio.errors import TrainError
from fxbio.train.output.run_folder import RunFolder

__all__ = ["FolderLostError", "Presence"]


class FolderLostError(TrainError):
    """The folder of a run is not there any more, so that nothing of it can be kept."""


class Presence:
    """Knows a folder again, once the files that a run begins with are in it."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._known = self._identity()

    def check(self) -> None:
        """See that the folder is the one that it was.

        Raises:
            FolderLostError: when somebody removed, emptied, moved or replaced it.
        """
        there = self._run.config.exists() and self._run.metrics.exists()
        if there and self._identity() == self._known:
            return
        raise FolderLostError(
            f"the folder of this run, '{self._run.path}', was removed, moved or replaced",
            notes=["what was trained since the last checkpoint is lost"],
            help="where it was moved, go on with --out FOLDER --resume auto; otherwise train again",
        )

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self._run.path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino
