"""The runs below a folder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from fxbio.train.output.liveness import observed_state, written
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
    """That of the status, or what ``observed_state`` sees of it."""
    status: Status
    age: str
    """Since something was written to it last."""


def list_runs(folder: Path) -> list[Listed]:
    """Every run below a folder, the newest first."""
    files = sorted(folder.rglob("status.json"), key=written, reverse=True)
    runs = []
    for file in files:
        status = read_status(file)
        if status is not None:
            name = str(file.parent.relative_to(folder))
            state, age = observed_state(status, file), _age(written(file))
            runs.append(Listed(name, file.parent, state, status, age))
    return runs


def _age(then: float) -> str:
    seconds = max(0, time.time() - then)
    for unit, length in _UNITS:
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
