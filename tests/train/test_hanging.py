"""Workers and ranks that hang are named, and do not keep a run from being left."""

from __future__ import annotations

import os
import signal
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

from fxbio.train.data import DataSource
from fxbio.train.distributed.process_group import World
from fxbio.train.engine import clock, watchdog
from fxbio.train.engine.outputs import Outputs
from fxbio.train.engine.run import train
from tests.train.test_resume import Trap, assert_same, final
from tests.train.tiny import recipe, source

WORKER = ("data.workers=1", "train.sanity_batches=0")


def stop_worker() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def doze() -> None:
    time.sleep(3)


def hanging(samples: int, do: Callable[[], None], half: str) -> DataSource:
    data = source()
    if half == "val":
        return replace(data, val=Trap(data.val, samples, do))
    return replace(data, train=Trap(data.train, samples, do))


@pytest.mark.parametrize(("half", "samples", "steps"), [("train", 60, (6, 7)), ("val", 3, (5,))])
def test_the_first_ctrl_c_saves_and_leaves_while_a_worker_hangs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    half: str,
    samples: int,
    steps: tuple[int, ...],
) -> None:
    monkeypatch.setattr(clock, "LATE", 1.0)
    monkeypatch.setattr(watchdog, "PERIOD", 1.0)
    timer = threading.Timer(8.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    stopped = train(recipe(*WORKER), tmp_path / "run", data=hanging(samples, stop_worker, half))
    assert time.monotonic() - began < 40
    assert (stopped.state, stopped.exit) == ("preempted", 130)
    assert stopped.step in steps  # a batch may have been handed over, or not yet
    said = capsys.readouterr().err
    assert said.count("waits for worker 0 that loads data (process ") == 1
    assert "which is stopped), too long" in said
    assert train(recipe(*WORKER), tmp_path / "run", data=source(), resume="auto").state == "done"
    train(recipe(*WORKER), tmp_path / "straight", data=source())
    assert_same(final(tmp_path / "run"), final(tmp_path / "straight"))


def test_a_worker_that_is_slow_is_waited_for(tmp_path: Path) -> None:
    train(recipe(*WORKER), tmp_path / "slow", data=hanging(20, doze, "train"))
    train(recipe(*WORKER), tmp_path / "straight", data=source())
    assert_same(final(tmp_path / "slow"), final(tmp_path / "straight"))


def test_a_rank_without_a_sign_of_life_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second of three processes gives one sign, and no other; the first one says so, once."""
    monkeypatch.setattr(clock, "LATE", 0.3)
    monkeypatch.setattr(watchdog, "PERIOD", 0.2)
    store = HashStore()
    dogs = []
    for rank in range(3):
        trainer: Any = SimpleNamespace(
            world=World(torch.device("cpu"), rank, 3, None, store),
            train_loader=SimpleNamespace(waiting_since=None),
            eval_loader=SimpleNamespace(waiting_since=None),
        )
        late = clock.Clock()
        late.in_step = True
        dogs.append(watchdog.Watchdog(trainer, Outputs(), late))
    store.set("life/1", "once")
    for dog in (dogs[0], dogs[2]):
        dog.start()
    time.sleep(2.5)
    for dog in (dogs[0], dogs[2]):
        dog.end()
    assert dogs[0].silent_ranks() == dogs[2].silent_ranks() == [1]
    assert capsys.readouterr().err.count("note: rank 1 is silent: a step has taken") == 1
