"""``status.json``: how a run stands, for people, schedulers and scripts.

torchrun answers 1 to every failure, so that the exit code alone cannot say it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from fxbio.files.reading import read_json
from fxbio.files.typed_json import from_json
from fxbio.train.output.run_folder import write_text

__all__ = ["EXIT_CODES", "State", "Status", "exit_code", "read_status", "write_status"]

State = Literal["running", "done", "failed", "preempted", "diverged"]

EXIT_CODES: Mapping[State, int] = {"done": 0, "failed": 1, "diverged": 1, "preempted": 143}


@dataclass(frozen=True)
class Status:
    """The content of the file."""

    state: State
    step: int = 0
    steps: int = 0
    epoch: int = 0
    checkpoint: str | None = None
    """The newest, relative to the folder."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the last evaluation."""
    best: float | None = None
    error: str | None = None
    exit: int | None = None
    process: Mapping[str, Any] = field(default_factory=dict)
    """Which one trains, as ``this_process`` says it."""
    angle: float | None = None
    """Degrees between W and B of a run that is done, as ``feedback_angle`` measures them."""


def exit_code(state: State, signal: int | None = None) -> int:
    """Exit code of the process: 130 for Ctrl-C, 143 for SIGTERM after saving."""
    if state == "preempted" and signal is not None:
        return 128 + signal
    return EXIT_CODES.get(state, 1)


def write_status(path: Path, status: Status) -> None:
    """Replace the file."""
    content = {**asdict(status), "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_status(path: Path) -> Status | None:
    """The status of a run; ``None`` where there is none that can be read."""
    try:
        content = read_json(path)
        content.pop("time", None)
        return from_json(content, Status)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
