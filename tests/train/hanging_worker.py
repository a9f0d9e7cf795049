"""One of two processes, each of which is stopped once: in a step, and in an evaluation."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from fxbio.train.engine import clock, watchdog
from fxbio.train.engine.run import train
from tests.train.test_resume import Trap
from tests.train.tiny import recipe, source


def stop(file: Path) -> None:
    """Until somebody who reads the file has the process go on."""
    pid = os.getpid()
    file.with_suffix(".new").write_text(str(pid))
    file.with_suffix(".new").rename(file)
    os.kill(pid, signal.SIGSTOP)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    clock.LATE, watchdog.PERIOD = 1.0, 0.25
    stop_here: Callable[[], None] = partial(stop, folder / "process")
    data = source()
    if os.environ["RANK"] == "1":
        data = replace(data, train=Trap(data.train, 26, stop_here))
    else:
        data = replace(data, val=Trap(data.val, 17, stop_here))
    assert train(recipe(), folder / "run", data=data).state == "done"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
