"""Being asked to stop: a flag that the loop looks at between steps."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["StopFlag", "watch_signals"]

WATCHED = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)
"""SIGUSR1 is what Slurm can be told to send ahead of its limit."""


class StopFlag:
    """Which signal asked to stop, if one did."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def watch_signals(tell: Callable[[str], None]) -> Iterator[StopFlag]:
    """Turn the first signal into a flag; a second one ends the process at once.

    Handlers that were there before are called too, and come back afterwards. Outside of the main
    thread, where Python has no signals, the flag is never raised.

    Args:
        tell: shows a line to the user.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        if flag:
            os._exit(128 + number)
        flag.signal = number
        name = signal.Signals(number).name
        tell(f"{name}: saving after this step, then leaving; once more to leave at once")
        if callable(before[number]) and before[number] is not signal.default_int_handler:
            before[number](number, frame)

    for number in WATCHED:
        before[number] = signal.signal(number, handle)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
