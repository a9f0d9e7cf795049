from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from fxbio.train.distributed.signals import StopFlag, watch_signals

SECOND = """
import os, signal
from fxbio.train.distributed.signals import watch_signals

with watch_signals(print) as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.signal == signal.SIGTERM
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here")
"""


def test_the_first_signal_raises_the_flag_and_handlers_come_back() -> None:
    called: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: called.append(number))
    said: list[str] = []
    try:
        with watch_signals(said.append) as stop:
            assert not stop
            os.kill(os.getpid(), signal.SIGUSR1)
            assert stop.signal == signal.SIGUSR1
        os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert called == [signal.SIGUSR1, signal.SIGUSR1]
    assert said == ["SIGUSR1: saving after this step, then leaving; once more to leave at once"]


def test_the_second_signal_ends_the_process_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", SECOND], capture_output=True, text=True)
    assert done.returncode == 143
    assert "still here" not in done.stdout


def test_other_threads_have_no_signals() -> None:
    flags: list[StopFlag] = []

    def run() -> None:
        with watch_signals(print) as stop:
            flags.append(stop)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not flags[0]
