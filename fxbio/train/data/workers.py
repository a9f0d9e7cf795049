"""Worker processes that outlive a SIGTERM, but never the training process.

torchrun sends SIGTERM to the whole process group. The training process then saves a checkpoint, for
which it must not lose its workers. But multiprocessing too ends workers by SIGTERM when Python
exits, and waits: one that ignores it has to be ended in another way.
"""

from __future__ import annotations

import atexit
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from weakref import WeakSet

__all__ = ["awaited", "end_at_exit", "ignore_signals"]

_WORKERS: WeakSet[BaseProcess] = WeakSet()


def ignore_signals(worker: int) -> None:
    """For a worker when it starts."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_at_exit(batches: Any) -> None:
    """For the iterator of a loader: its workers leave before multiprocessing waits for them."""
    batches._register_persistent_workers_atexit()
    _WORKERS.update(batches._workers)


def awaited(batches: Any) -> str:
    """Worker that the iterator of a loader waits for: one that is stopped, or whose turn it is."""
    pids = [worker.pid for worker in batches._workers]
    for number, pid in enumerate(pids):
        if _is_stopped(pid):
            return f"worker {number} that loads data (process {pid}, which is stopped)"
    number = batches._task_info.get(batches._rcvd_idx, (0,))[0]
    return f"worker {number} that loads data (process {pids[number]})"


def _is_stopped(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it has ended, or there is no /proc
        return False
    return text.rpartition(")")[2].split()[0] in "Tt"


@atexit.register  # early, so that it runs after torch has asked the workers to leave
def _kill_what_is_left() -> None:
    for worker in list(_WORKERS):
        if worker.is_alive():
            worker.kill()
