"""The folder of a run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fxbio.errors import ConfigError
from fxbio.files.atomic_file import WrongPlaceError, write_whole

__all__ = ["Resume", "RunFolder", "make_folder", "write_bytes", "write_text"]

Resume = Literal["no", "auto"] | Path
"""``auto`` continues from the newest checkpoint of the folder, if there is one."""


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved recipe."""
        return self.path / "config.yaml"

    @property
    def status(self) -> Path:
        """State of the run."""
        return self.path / "status.json"

    @property
    def metrics(self) -> Path:
        """One JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def alignment(self) -> Path:
        """One JSON object per line: what alignment was measured on the way."""
        return self.path / "alignment.jsonl"

    @property
    def log(self) -> Path:
        """Messages of the run."""
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def unused(self) -> bool:
        """True if no run has begun: there is at most the status of one that was stopped before."""
        if not self.path.exists():
            return True
        return self.path.is_dir() and set(self.path.glob("[!.]*")) <= {self.status}

    def check(self, resume: Resume, overwrite: bool) -> None:
        """Refuse to mix two runs, and to remove anything that is no run.

        Raises:
            ConfigError: when the folder is in use.
        """
        if self.unused:
            return
        if not self.path.is_dir() or not self.config.exists():
            raise ConfigError(
                f"'{self.path}' is not empty, and not a run of fxbio train",
                help="choose another folder: --out runs/NAME",
            )
        if not overwrite and self.checkpoints.exists() and not self.checkpoints.is_dir():
            raise ConfigError(
                f"'{self.checkpoints}' is not a folder, so that there are no checkpoints",
                help="remove that file to begin again with --resume auto, or put back the folder",
            )
        if resume == "no" and not overwrite:
            raise ConfigError(
                f"there is a run in '{self.path}' already",
                help="continue it with --resume auto, choose another folder with --out runs/NAME, "
                "or remove it with --overwrite",
            )

    def prepare(self, overwrite: bool) -> None:
        """Make the folder, empty if it is to be overwritten."""
        if overwrite and self.path.exists():
            shutil.rmtree(self.path)
        make_folder(self.path)


def make_folder(path: Path) -> None:
    """Make a folder that may be there.

    Raises:
        ConfigError: when it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder '{path}' cannot be made: {error.strerror}",
            help="choose another with --out",
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a small file at once: a reader sees the old text or the new one.

    Raises:
        ConfigError: when something that is no file stands in its place.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """The same for data.

    Raises:
        ConfigError: as for ``write_text``.
    """
    try:
        write_whole(path, data)
    except WrongPlaceError as error:
        raise ConfigError(f"'{path}' cannot be written: {error}") from error
