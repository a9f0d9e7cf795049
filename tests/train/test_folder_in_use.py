"""The folder of a run that goes on is nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from torch.utils.data import Dataset

from fxbio.cli.main import cli
from fxbio.errors import ConfigError
from fxbio.train.engine.run import train
from fxbio.train.output.listing import list_runs
from fxbio.train.output.process import is_gone, this_process
from fxbio.train.output.status import Status, read_status, write_status
from tests.train.tiny import recipe, source

Other = dict[str, Any]


@pytest.fixture
def other() -> Iterator[Other]:
    """A process that goes on, as a status names it."""
    with subprocess.Popen(["sleep", "600"]) as child:
        stat = Path(f"/proc/{child.pid}/stat").read_text()
        yield {**this_process(), "pid": child.pid, "started": stat.rpartition(")")[2].split()[19]}
        child.kill()


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    train(recipe("train.epochs=1"), tmp_path / "run", data=source())
    return tmp_path / "run"


def belongs_to(run: Path, process: Other, age: float = 0.0) -> None:
    write_status(run / "status.json", Status("running", step=5, process=process))
    for file in ("status.json", "metrics.jsonl", "log.txt"):
        os.utime(run / file, (time.time() - age,) * 2)


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "word"),
    [({"overwrite": True}, "overwritten"), ({"resume": "auto"}, "continued")],
)
def test_a_run_that_goes_on_is_left_alone(
    ran: Path, other: Other, options: dict[str, Any], word: str
) -> None:
    belongs_to(ran, other)
    before = content(ran)
    with pytest.raises(ConfigError, match=f"goes on, and cannot be {word}") as caught:
        train(recipe("train.epochs=2"), ran, data=source(), **options)
    assert f"kill {other['pid']}" in str(caught.value)
    assert content(ran) == before


def test_a_silent_one_is_left_alone_too(ran: Path, other: Other) -> None:
    belongs_to(ran, other, age=3600)
    os.kill(other["pid"], signal.SIGSTOP)
    with pytest.raises(ConfigError, match="it is silent, in process"):
        train(recipe(), ran, data=source(), overwrite=True)


def test_the_command_refuses_it(ran: Path, other: Other, tmp_path: Path) -> None:
    belongs_to(ran, other)
    file = tmp_path / "recipe.yaml"
    file.write_text((ran / "config.yaml").read_text())
    before = content(ran)
    words = ["train", str(file), "data.name=digits", "--out", str(ran), "--overwrite"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2
    assert "goes on, and cannot be overwritten" in result.stderr
    assert content(ran) == before


def test_one_that_begins_while_this_one_builds_is_left_alone(ran: Path, other: Other) -> None:
    class Slow(Dataset[Any]):
        def __len__(self) -> int:
            belongs_to(ran, other)
            return 40

        def __getitem__(self, index: int) -> Any:
            return source().train[index]

    slow = replace(source(), train=Slow())
    with pytest.raises(ConfigError, match="goes on, and cannot be overwritten"):
        train(recipe(), ran, data=slow, overwrite=True)


def ended(process: Other) -> Other:
    os.kill(process["pid"], signal.SIGKILL)
    os.waitid(os.P_PID, process["pid"], os.WEXITED | os.WNOWAIT)  # a zombie from here on
    return process


@pytest.mark.parametrize(
    ("owner", "age"),
    [
        (ended, 0.0),
        (lambda process: this_process(), 0.0),  # an earlier call of this very process
        (lambda process: {**process, "host": "node7"}, 70.0),
    ],
)
def test_one_that_has_ended_may_be_overwritten(
    ran: Path, other: Other, owner: Callable[[Other], Other], age: float
) -> None:
    belongs_to(ran, owner(other), age)
    outcome = train(recipe("train.epochs=2"), ran, data=source(), overwrite=True)
    assert (outcome.state, outcome.step) == ("done", 10)


def test_a_zombie_is_gone(other: Other) -> None:
    assert not is_gone(other)
    assert is_gone(ended(other))


def test_a_run_elsewhere_may_be_continued_but_not_removed(ran: Path, other: Other) -> None:
    """A scheduler that moves a run kills it there first."""
    belongs_to(ran, {**other, "host": "node7"})
    assert list_runs(ran.parent)[0].state == "running on node7"
    with pytest.raises(ConfigError, match="it is running on node7, in process"):
        train(recipe("train.epochs=2"), ran, data=source(), overwrite=True)
    outcome = train(recipe("train.epochs=2"), ran, data=source(), resume="auto")
    assert (outcome.state, outcome.step) == ("done", 10)


def test_the_status_of_a_run_that_is_done_stands_in_nobodys_way(ran: Path) -> None:
    train(recipe("train.epochs=1"), ran, data=source(), overwrite=True)
    status = read_status(ran / "status.json")
    assert status is not None
    assert status.state == "done"
