"""The runs below a folder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from fxbio.train.output.folder import RunFolder
from fxbio.train.output.process import is_gone, is_here
from fxbio.train.output.status import Status, read_status

__all__ = ["Listed", "list_runs"]

_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


@dataclass(frozen=True)
class Listed:
    """One run."""

    name: str
    """Relative to the folder that was looked at."""
    path: Path
    state: str
    """That of the status; ``killed`` where its process has ended without a word, and ``running on
    HOST`` where that cannot be seen from here."""
    status: Status
    age: str
    """Since something was written to it last."""


def list_runs(folder: Path) -> list[Listed]:
    """Every run below a folder, the newest first."""
    files = sorted(folder.rglob("status.json"), key=_written, reverse=True)
    runs = []
    for file in files:
        status = read_status(file)
        if status is not None:
            name = str(file.parent.relative_to(folder))
            runs.append(Listed(name, file.parent, _state(status), status, _age(_written(file))))
    return runs


def _state(status: Status) -> str:
    if status.state != "running":
        return status.state
    if not is_here(status.process):
        return f"running on {status.process.get('host', 'an unknown machine')}"
    return "killed" if is_gone(status.process) else "running"


def _written(status: Path) -> float:
    run = RunFolder(status.parent)
    there = [file for file in (status, run.metrics, run.log) if file.exists()]
    return max(file.stat().st_mtime for file in there)


def _age(written: float) -> str:
    seconds = max(0, time.time() - written)
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
