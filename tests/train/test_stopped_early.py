"""A signal before anything was trained: the process leaves, and the next one begins as if new."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from fxbio.train.config import Recipe
from fxbio.train.engine import resume as beginning
from fxbio.train.engine.run import train
from fxbio.train.output.status import read_status
from tests.train.test_resume import assert_same, final, terminate, trapped
from tests.train.tiny import MODELS, recipe, source


def sections(model: str) -> Recipe:
    return recipe(f"model.reference={MODELS}:{model}", rule="fa")


@pytest.mark.parametrize("model", ["stopping", "mistaken", "suspicious"])
def test_it_leaves_a_status_and_one_line(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    outcome = train(sections(model), tmp_path / "run", data=source())
    assert (outcome.state, outcome.exit, outcome.step) == ("preempted", 143, 0)
    status = read_status(tmp_path / "run" / "status.json")
    assert status is not None
    assert (status.state, status.exit, status.step) == ("preempted", 143, 0)
    assert capsys.readouterr().err == "SIGTERM: leaving, nothing was trained yet\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_same_call_begins_afterwards(tmp_path: Path) -> None:
    train(sections("stopping"), tmp_path, data=source())
    assert {path.name for path in tmp_path.iterdir()} == {"status.json"}
    assert train(sections("plain"), tmp_path, data=source()).state == "done"


def test_an_earlier_run_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe(), tmp_path, data=trapped(60, terminate))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(beginning, "restore_run", lambda trainer, state: terminate())
        outcome = train(recipe(), tmp_path, data=source(), resume="auto")
    assert (outcome.state, outcome.exit, outcome.step) == ("preempted", 143, 8)
    said = capsys.readouterr().err
    assert said == f"SIGTERM: leaving, nothing was trained now, '{tmp_path}' is as it was\n"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_earlier_run_is_not_overwritten(tmp_path: Path) -> None:
    assert train(recipe(), tmp_path, data=source()).state == "done"
    before = final(tmp_path)
    train(sections("stopping"), tmp_path, data=source(), overwrite=True)
    assert_same(final(tmp_path), before)


def test_a_folder_of_something_else_gets_no_status(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    fifo = tmp_path / "recipe.yaml"
    left = stop_while_it_reads(fifo, signal.SIGTERM, out=tmp_path)
    assert left.returncode == 143
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.tex", "recipe.yaml"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_leaves_before_it_has_read_its_recipe(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    left = stop_while_it_reads(tmp_path / "recipe.yaml", number, out=tmp_path / "run")
    assert left.returncode == code
    assert left.stderr == f"{number.name}: leaving, nothing was trained yet\n"
    status = read_status(tmp_path / "run" / "status.json")
    assert status is not None
    assert (status.state, status.exit) == ("preempted", code)


_WAITING = """
import io, time
from pathlib import Path

opened = io.open

def waiting(path, *args, **kwargs):
    if str(path).endswith("recipe.yaml"):
        Path(__file__).with_name("reading").touch()
        time.sleep(60)
    return opened(path, *args, **kwargs)

io.open = waiting
"""
"""Has whoever opens the recipe wait, and say so by a file."""


def stop_while_it_reads(
    recipe: Path, number: signal.Signals, out: Path
) -> subprocess.CompletedProcess[str]:
    """The command, stopped by a signal while it waits for its recipe."""
    recipe.touch()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(_WAITING)
        command = [sys.executable, "-m", "fxbio", "train", str(recipe), "--out", str(out)]
        environment = {**os.environ, "PYTHONPATH": folder}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        while not (Path(folder) / "reading").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    return subprocess.CompletedProcess(command, process.returncode, stderr=said)
