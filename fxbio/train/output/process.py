"""Process that writes a run, and a test that it is still there."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["is_gone", "is_here", "this_process"]


_MOST = 2**31
"""Above all numbers of processes."""


def this_process() -> dict[str, Any]:
    """Identity of this process among all others, as plain data."""
    return {**_place(), "pid": os.getpid(), "started": _started(os.getpid())}


def is_here(process: Mapping[str, Any]) -> bool:
    """True if it ran where its number means the same as here: same machine, same container."""
    return all(process.get(key) == value for key, value in _place().items())


def is_gone(process: Mapping[str, Any]) -> bool:
    """True if a process that ran here has ended."""
    pid = process.get("pid")
    if not isinstance(pid, int) or not 0 < pid < _MOST:  # a status that somebody edited
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is somebody else's
        pass
    return bool(_started(pid) != process.get("started"))  # another one has its number


def _place() -> dict[str, str]:
    """Containers may have the name of their machine, and numbers of their own."""
    numbers = ""
    with suppress(OSError):
        numbers = os.readlink("/proc/self/ns/pid")
    return {"host": platform.node(), "numbers": numbers}


def _started(pid: int) -> str:
    """Start of the process in the clock of the kernel; empty where that cannot be read any more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]  # a zombie has ended, and nobody has asked yet
