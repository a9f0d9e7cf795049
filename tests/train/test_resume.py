"""A run that is stopped or killed and continued is the run that was not, to the last bit."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset

from fxbio.train.config import Recipe
from fxbio.train.data import DataSource
from fxbio.train.engine.run import Outcome, train
from fxbio.train.output.status import read_status
from tests.train.tiny import recipe, source

EMA = "train.ema=0.9"
PARTS = "train.accumulate=2"
OFTEN = "checkpoint.every_steps=2"


class Killed(BaseException):
    """As abrupt as an exception can be."""


class Trap(Dataset[Any]):
    """Does something when its n-th sample is asked for, once."""

    def __init__(self, inner: Dataset[Any], after: int, do: Any) -> None:
        self.inner, self.left, self.do = inner, after, do

    def __len__(self) -> int:
        return len(self.inner)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        self.left -= 1
        if self.left == 0:
            self.do()
        return self.inner[index]


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def kill() -> None:
    raise Killed


def trapped(after: int, do: Any, *, val: bool = False) -> DataSource:
    data = source()
    if val:
        return replace(data, val=Trap(data.val, after, do))
    return replace(data, train=Trap(data.train, after, do))


def final(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    return state


def assert_same(a: Any, b: Any, path: str = "") -> None:
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{path}.{number}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def run(settings: Recipe, folder: Path, data: DataSource | None = None) -> Outcome:
    return train(settings, folder, data=data or source(), resume="auto")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    assert run(recipe(EMA, PARTS, OFTEN), folder).state == "done"
    return folder


# A step has 8 samples, an epoch 5 steps.
@pytest.mark.parametrize("samples", [1, 9, 33, 40, 41, 79, 120])
def test_a_terminated_run_goes_on_as_if_nothing_had_been(
    straight: Path, tmp_path: Path, samples: int
) -> None:
    settings = recipe(EMA, PARTS, OFTEN)
    stopped = run(settings, tmp_path, trapped(samples, terminate))
    assert (stopped.state, stopped.exit) == ("preempted", 143)
    status = read_status(tmp_path / "status.json")
    assert status is not None
    assert (status.state, status.exit, status.step) == ("preempted", 143, stopped.step)
    assert stopped.step == -(-samples // 8)
    assert run(settings, tmp_path).state == "done"
    assert_same(final(tmp_path), final(straight))


@pytest.mark.parametrize("samples", [30, 60, 95])
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    straight: Path, tmp_path: Path, samples: int
) -> None:
    settings = recipe(EMA, PARTS, OFTEN)
    with pytest.raises(Killed):
        run(settings, tmp_path, trapped(samples, kill))
    assert run(settings, tmp_path).state == "done"
    assert_same(final(tmp_path), final(straight))
    assert metrics(tmp_path) == metrics(straight)


@pytest.mark.parametrize("samples", [3, 24, 50])
def test_evaluation_can_be_stopped_too(straight: Path, tmp_path: Path, samples: int) -> None:
    settings = recipe(EMA, PARTS, OFTEN)
    stopped = run(settings, tmp_path, trapped(samples, terminate, val=True))
    assert stopped.state == "preempted"
    assert run(settings, tmp_path).state == "done"
    assert_same(final(tmp_path), final(straight))


def test_ctrl_c_saves_too(tmp_path: Path) -> None:
    stopped = run(recipe(), tmp_path, trapped(9, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert (stopped.state, stopped.exit, stopped.step) == ("preempted", 130, 2)


def test_stopping_twice(straight: Path, tmp_path: Path) -> None:
    settings = recipe(EMA, PARTS, OFTEN)
    for samples in (20, 30):
        assert run(settings, tmp_path, trapped(samples, terminate)).state == "preempted"
    assert run(settings, tmp_path).state == "done"
    assert_same(final(tmp_path), final(straight))


def test_the_number_of_workers_does_not_matter(straight: Path, tmp_path: Path) -> None:
    assert run(recipe(EMA, PARTS, OFTEN, "data.workers=1"), tmp_path).state == "done"
    assert_same(final(tmp_path), final(straight))


def test_a_run_that_is_done_stays_as_it_is(tmp_path: Path) -> None:
    run(recipe(), tmp_path)
    before = final(tmp_path)
    assert run(recipe(), tmp_path).state == "done"
    assert_same(final(tmp_path), before)


def metrics(folder: Path) -> list[str]:
    """Lines without what depends on the clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [line.partition(', "images_per_s"')[0] for line in lines]


LARGEST = {"refresh_every": 3, "fraction": 0.2, "select": "largest"}


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        *((rule, {}) for rule in ("fa", "kp", "pfa", "sa", "dfa", "dgl", "drl", "l-drl")),
        ("fbp", LARGEST),
        ("fbp", {**LARGEST, "select": "random"}),
    ],
)
def test_every_family_of_rules_goes_on_bit_for_bit(
    tmp_path: Path, rule: str, options: dict[str, object]
) -> None:
    settings = recipe("optim.lr=0.01", f"policy.options={options}", model="plain", rule=rule)
    assert run(settings, tmp_path / "straight").state == "done"
    stopped = run(settings, tmp_path / "stopped", trapped(49, terminate))
    assert stopped.state == "preempted"
    assert run(settings, tmp_path / "stopped").state == "done"
    assert_same(final(tmp_path / "stopped"), final(tmp_path / "straight"))
