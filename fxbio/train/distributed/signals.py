"""Being asked to stop: at once as long as nothing was trained, then between two steps."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

__all__ = ["Abandoned", "StopFlag", "StoppedEarly", "raise_early", "watch_signals"]

WATCHED = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)
)
"""SIGUSR1 is what Slurm can be told to send ahead of its limit."""


class StoppedEarly(BaseException):
    """A signal came before anything was trained.

    It is no ``Exception``: what imports, models and data suppress must not suppress this.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Abandoned(BaseException):
    """Error of something awaited that did not come, after the process was asked to stop."""


GRACE = 3.0
"""Seconds that it has to come."""


def _abandon(number: int, frame: FrameType | None) -> NoReturn:
    raise Abandoned


def silent(text: str) -> None:
    """Show nothing."""


class StopFlag:
    """Signal that asked to stop, if one did.

    Args:
        tell: shows a line to the user.
        early: what the first signal calls as long as there is nothing to save.
    """

    def __init__(
        self,
        tell: Callable[[str], None] = silent,
        early: Callable[[int], NoReturn] | None = None,
    ) -> None:
        self.signal: int | None = None
        self.tell = tell
        self._early = early
        self._abandons = False

    def __bool__(self) -> bool:
        return self.signal is not None

    def hold(self) -> None:
        """From now on a signal is noted without a word, until ``tell`` is set again."""
        self.tell, self._early = silent, None

    @contextmanager
    def abandoning(self) -> Iterator[None]:
        """Inside, a signal ends the waiting soon: ``Abandoned`` is raised after a few seconds.

        Outside of the main thread, where Python has no signals, nothing is.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGALRM, _abandon)
        self._abandons = True
        try:
            yield
        finally:
            self._abandons = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def receive(self, number: int) -> None:
        """Take in a signal; a second one ends the process at once."""
        if self:
            os._exit(128 + number)
        self.signal = number
        if self._early is not None:
            self._early(number)
        if self._abandons:
            signal.setitimer(signal.ITIMER_REAL, GRACE)
        name = signal.Signals(number).name
        self.tell(f"{name}: saving after this step, then leaving; once more to leave at once")


def raise_early(number: int) -> NoReturn:
    """Raise ``StoppedEarly`` wherever the process is."""
    raise StoppedEarly(number)


@contextmanager
def watch_signals(
    tell: Callable[[str], None] = silent, early: Callable[[int], NoReturn] | None = None
) -> Iterator[StopFlag]:
    """Turn the first signal into a flag; a second one ends the process at once.

    Handlers that were there before are called too, and come back afterwards. Outside of the main
    thread, where Python has no signals, the flag is never raised.

    Args:
        tell: shows a line to the user.
        early: what the first signal calls until ``hold`` of the flag; by default nothing.
    """
    flag = StopFlag(tell, early)
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before: dict[int, Any] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        first, other = not flag, before[number]
        try:
            flag.receive(number)
        finally:
            if first and callable(other) and other is not signal.default_int_handler:
                other(number, frame)

    for number in WATCHED:
        before[number] = signal.signal(number, handle)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
