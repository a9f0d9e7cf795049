"""Workers and ranks that hang are named, and do not keep a run from being left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.distributed import HashStore
from torch.utils.data import _utils

from fxbio.train.data import DataSource
from fxbio.train.distributed import signals
from fxbio.train.distributed.process_group import World
from fxbio.train.engine import clock, watchdog
from fxbio.train.engine.outputs import Outputs
from fxbio.train.engine.run import train
from fxbio.train.output.progress import say_anywhere
from fxbio.train.output.status import read_status
from tests.train import hanging_worker
from tests.train.test_resume import Trap, assert_same, final
from tests.train.tiny import recipe, source

WORKER = ("data.workers=1", "train.sanity_batches=0")


def stop_worker() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def doze() -> None:
    time.sleep(1)


def hanging(samples: int, do: Callable[[], None], half: str) -> DataSource:
    data = source()
    if half == "val":
        return replace(data, val=Trap(data.val, samples, do))
    return replace(data, train=Trap(data.train, samples, do))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run ends with in which nothing hangs."""
    folder = tmp_path_factory.mktemp("straight")
    train(recipe(*WORKER), folder, data=source())
    return final(folder)


@pytest.mark.parametrize(("half", "samples", "steps"), [("train", 60, (6, 7)), ("val", 3, (5,))])
def test_the_first_ctrl_c_saves_and_leaves_while_a_worker_hangs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    straight: Any,
    half: str,
    samples: int,
    steps: tuple[int, ...],
) -> None:
    def interrupted(*args: Any) -> None:
        say_anywhere(*args)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(clock, "LATE", 1.0)
    monkeypatch.setattr(watchdog, "PERIOD", 0.2)
    monkeypatch.setattr(watchdog, "say_anywhere", interrupted)
    monkeypatch.setattr(signals, "GRACE", 0.5)
    monkeypatch.setattr(_utils, "MP_STATUS_CHECK_INTERVAL", 0.5)  # until torch ends a worker
    stopped = train(recipe(*WORKER), tmp_path / "run", data=hanging(samples, stop_worker, half))
    assert (stopped.state, stopped.exit) == ("preempted", 130)
    assert stopped.step in steps  # a batch may have been handed over, or not yet
    said = capsys.readouterr().err
    assert said.count("waits for worker 0 that loads data (process ") == 1
    assert "which is stopped), too long" in said
    assert train(recipe(*WORKER), tmp_path / "run", data=source(), resume="auto").state == "done"
    assert_same(final(tmp_path / "run"), straight)


def test_a_worker_that_is_slow_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, straight: Any
) -> None:
    monkeypatch.setattr(clock, "LATE", 0.1)
    monkeypatch.setattr(watchdog, "PERIOD", 0.1)
    train(recipe(*WORKER), tmp_path, data=hanging(20, doze, "train"))
    assert_same(final(tmp_path), straight)


@pytest.mark.parametrize(
    ("in_step", "said"),
    [(True, "a step has taken"), (False, "no sign of life for")],
)
def test_a_rank_without_a_sign_of_life_is_silent(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    in_step: bool,
    said: str,
) -> None:
    """The second of three processes gives one sign, and no other; the first one says so, once."""
    monkeypatch.setattr(clock, "LATE", 0.5)
    monkeypatch.setattr(watchdog, "PERIOD", 0.3)
    store = HashStore()
    dogs = []
    for rank in range(3):
        trainer: Any = SimpleNamespace(
            world=World(torch.device("cpu"), rank, 3, None, store),
            train_loader=SimpleNamespace(waiting_since=None),
            eval_loader=SimpleNamespace(waiting_since=None),
        )
        late = clock.Clock()
        late.in_step = in_step
        dogs.append(watchdog.Watchdog(trainer, Outputs(), late))
    store.set("life/1", "once")
    for dog in (dogs[0], dogs[2]):
        dog.start()
    time.sleep(2)
    assert [*dogs[0].silent_ranks()] == [*dogs[2].silent_ranks()] == [1]
    for dog in (dogs[0], dogs[2]):
        dog.end()
    assert capsys.readouterr().err.count(f"note: rank 1 is silent: {said}") == 1


def test_stopped_processes_of_torchrun_are_named_by_the_other_one(tmp_path: Path) -> None:
    """The second in a step, the first in an evaluation; the run ends well when they go on."""
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    said, notes, process = [], [], tmp_path / "process"
    with subprocess.Popen(
        [*command, "-m", hanging_worker.__name__, str(tmp_path)],
        env={**os.environ, "GLOO_SOCKET_IFNAME": loopback, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        limit = threading.Timer(150, running.terminate)
        limit.start()
        assert running.stderr is not None
        for line in running.stderr:
            said.append(line)
            if "is silent" in line:
                notes.append(line.strip())
                os.kill(int(process.read_text()), signal.SIGCONT)
        limit.cancel()
    assert running.returncode == 0, "".join(said)
    evaluation, step = sorted(notes)
    assert evaluation.startswith("note: rank 0 is silent: no sign of life for")
    assert step.startswith("note: rank 1 is silent: a step has taken")
    status = read_status(tmp_path / "run" / "status.json")
    assert status is not None
    assert status.state == "done"
