"""A run whose folder is taken away while it trains fails, and leaves nothing in its place."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fxbio.errors import ConfigError, FxbioError, TrainError
from fxbio.train.engine.run import train
from fxbio.train.output.presence import FolderLostError
from fxbio.train.output.status import Status, read_status, write_status
from fxbio.train.state.store import CheckpointStore
from tests.train.test_resume import final, terminate, trapped
from tests.train.tiny import recipe, source

OFTEN = "checkpoint.every_steps=1"


def written() -> None:
    """No checkpoint is being written: nobody can remove a folder that is being filled."""
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join()


def remove(run: Path) -> None:
    shutil.rmtree(run)


def move(run: Path) -> None:
    run.rename(run.with_name("moved"))


def empty(run: Path) -> None:
    for path in run.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def replace(run: Path) -> None:
    """By another run."""
    shutil.copytree(run, run.with_name("copy"))
    shutil.rmtree(run)
    run.with_name("copy").rename(run)
    write_status(run / "status.json", Status("running", step=77))


@pytest.mark.parametrize("take", [remove, move, empty, replace])
@pytest.mark.parametrize("often", [[], [OFTEN]])
@pytest.mark.parametrize(("samples", "val"), [(5, False), (60, False), (110, False), (50, True)])
def test_it_does_not_end_with_done(
    tmp_path: Path, take: Callable[[Path], None], often: list[str], samples: int, val: bool
) -> None:
    run = tmp_path / "run"
    left: dict[str, Any] = {}

    def do() -> None:
        written()
        take(run)
        left["files"] = sorted(run.rglob("*")) if run.exists() else None

    with pytest.raises(FolderLostError, match="was removed, moved or replaced"):
        train(recipe(*often), run, data=trapped(samples, do, val=val))
    assert (sorted(run.rglob("*")) if run.exists() else None) == left["files"]
    if take is replace:
        status = read_status(run / "status.json")
        assert status is not None
        assert (status.state, status.step) == ("running", 77)


def test_a_stopped_run_says_that_nothing_was_saved(tmp_path: Path) -> None:
    def do() -> None:
        written()
        remove(tmp_path / "run")
        terminate()

    with pytest.raises(FolderLostError):
        train(recipe(), tmp_path / "run", data=trapped(9, do))
    assert not (tmp_path / "run").exists()


def block(checkpoints: Path) -> None:
    written()
    if checkpoints.exists():
        shutil.rmtree(checkpoints)
    checkpoints.write_text("not a folder")


@pytest.mark.parametrize("samples", [5, 60])
def test_a_file_in_the_place_of_the_checkpoints_is_one_clear_error(
    tmp_path: Path, samples: int
) -> None:
    checkpoints = tmp_path / "checkpoints"
    with pytest.raises(TrainError, match=r"checkpoints cannot be kept in '.*': .*File exists"):
        train(recipe(OFTEN), tmp_path, data=trapped(samples, lambda: block(checkpoints)))
    status = read_status(tmp_path / "status.json")
    assert status is not None
    assert (status.state, status.exit) == ("failed", 1)
    assert "checkpoints cannot be kept" in (status.error or "")
    assert checkpoints.read_text() == "not a folder"


def test_a_run_does_not_begin_anew_where_its_checkpoints_are_a_file(tmp_path: Path) -> None:
    train(recipe("train.epochs=1"), tmp_path, data=source())
    block(tmp_path / "checkpoints")
    with pytest.raises(ConfigError, match="checkpoints' is not a folder"):
        train(recipe(), tmp_path, data=source(), resume="auto")
    status = read_status(tmp_path / "status.json")
    assert status is not None
    assert (status.state, status.step) == ("done", 5)


@pytest.mark.parametrize("name", ["step-00000001.pt", "last.pt"])
def test_a_folder_in_the_place_of_a_checkpoint_is_one_clear_error(
    tmp_path: Path, name: str
) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", 3)
    (tmp_path / "checkpoints" / name / "kept").mkdir(parents=True)
    store.save({"format": 1}, 1, best=False)
    with pytest.raises(FxbioError, match=f"{name}|checkpoints cannot be kept"):
        store.finish()
    assert (tmp_path / "checkpoints" / name / "kept").is_dir()


def test_checkpoints_that_were_removed_alone_are_written_again(tmp_path: Path) -> None:
    def do() -> None:
        written()
        shutil.rmtree(tmp_path / "checkpoints")

    outcome = train(recipe(OFTEN), tmp_path, data=trapped(80, do))
    assert outcome.state == "done"
    assert final(tmp_path)["progress"]["step"] == 15
