from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from fxbio.errors import ConfigError, TrainError
from fxbio.train.engine.run import train
from fxbio.train.output.status import read_status
from fxbio.train.state.checkpoint_files import (
    host_copy,
    is_whole,
    read_checkpoint,
    write_checkpoint,
)
from fxbio.train.state.store import CheckpointStore
from tests.train.tiny import recipe, source

STATE = {"format": 1, "weights": torch.arange(1000.0), "step": 3}


def store(folder: Path, keep: int = 2) -> CheckpointStore:
    return CheckpointStore(folder, keep)


def fill(folder: Path, steps: int, best: int = 1) -> CheckpointStore:
    filled = store(folder)
    for step in range(1, steps + 1):
        filled.save({**STATE, "step": step}, step, best=step == best)
    filled.finish()
    return filled


def break_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(state: Any, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", save)


def test_a_checkpoint_reads_back_without_running_code(tmp_path: Path) -> None:
    write_checkpoint(STATE, tmp_path / "a.pt")
    assert torch.equal(read_checkpoint(tmp_path / "a.pt")["weights"], STATE["weights"])
    assert not list(tmp_path.glob(".*"))


def test_the_checksum_is_one_that_sha256sum_checks(tmp_path: Path) -> None:
    write_checkpoint(STATE, tmp_path / "a.pt")
    command = ["sha256sum", "--check", "a.pt.sha256"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize("damage", ["truncate", "flip", "no checksum", "torn checksum"])
def test_damage_is_noticed_and_the_one_before_is_taken(tmp_path: Path, damage: str) -> None:
    filled = fill(tmp_path, 3)
    newest = filled.all()[0]
    content = newest.read_bytes()
    checksum = newest.with_name(newest.name + ".sha256")
    if damage == "truncate":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        newest.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    elif damage == "no checksum":
        checksum.unlink()
    else:
        checksum.write_text("")
    said: list[str] = []
    found = filled.newest(said.append)
    assert found is not None
    assert found.name == "step-00000002.pt"
    assert said == [
        "the checkpoint step-00000003.pt is damaged or incomplete, taking the one before"
    ]


@pytest.mark.parametrize("moment", [0, 1, 2, 3])
def test_a_checkpoint_that_replaces_another_is_whole_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """The end of an epoch may write a step again; the run may be killed before any rename."""
    write_checkpoint(STATE, tmp_path / "a.pt")
    renames = iter(range(10))

    def replace(source: Path, target: Path) -> None:
        if next(renames) == moment:
            raise KeyboardInterrupt
        Path(source).rename(target)

    monkeypatch.setattr(os, "replace", replace)
    with suppress(KeyboardInterrupt):
        write_checkpoint({**STATE, "step": 4}, tmp_path / "a.pt")
    assert next(renames) == min(moment + 1, 3)
    assert is_whole(tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt")["step"] == (3 if moment < 2 else 4)


def test_what_a_killed_run_left_half_done_is_put_right(tmp_path: Path) -> None:
    filled = fill(tmp_path, 3)
    (tmp_path / "step-00000003.pt").write_bytes(b"torn")
    (tmp_path / ".step-00000004.pt.part").touch()
    (tmp_path / "step-00000005.pt.sha256").touch()
    filled.go_on_from(tmp_path / "step-00000002.pt", 2, best=True)
    filled.save({**STATE, "step": 4}, 4, best=False)
    filled.finish()
    assert {path.name for path in tmp_path.iterdir()} == {
        "damaged-step-00000003.pt",
        *(f"step-0000000{k}.pt{end}" for k in (2, 4) for end in ("", ".sha256")),
        *("last.pt", "best.pt"),
    }
    assert (tmp_path / "best.pt").resolve().name == "step-00000002.pt"
    assert (tmp_path / "last.pt").resolve().name == "step-00000004.pt"


def test_a_damaged_checkpoint_that_is_named_is_an_error(tmp_path: Path) -> None:
    write_checkpoint(STATE, tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes(b"nonsense")
    with pytest.raises(TrainError, match="damaged: its checksum differs"):
        read_checkpoint(tmp_path / "a.pt")


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    torch.save({"a": 1}, tmp_path / "a.pt")
    with pytest.raises(TrainError, match="is not a checkpoint of fxbio train"):
        read_checkpoint(tmp_path / "a.pt")
    with pytest.raises(TrainError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "b.pt")


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    filled = fill(tmp_path, 5, best=2)
    assert [path.name for path in filled.all()] == [f"step-0000000{k}.pt" for k in (5, 4, 2)]
    assert read_checkpoint(tmp_path / "last.pt")["step"] == 5
    assert read_checkpoint(tmp_path / "best.pt")["step"] == 2
    assert len(list(tmp_path.glob("*.sha256"))) == 3
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = fill(tmp_path, 2)
    break_the_disk(monkeypatch)
    filled.save({**STATE, "step": 3}, 3, best=False)
    with pytest.raises(TrainError, match="No space left on device") as caught:
        filled.finish()
    assert "--resume auto" in str(caught.value)
    assert not list(tmp_path.glob(".*"))
    newest = filled.newest(lambda text: None)
    assert newest is not None
    assert newest.name == "step-00000002.pt"


def test_a_run_on_a_full_disk_fails_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(recipe("train.epochs=1"), tmp_path, data=source())
    break_the_disk(monkeypatch)
    with pytest.raises(TrainError, match="cannot be written"):
        train(recipe("train.epochs=3"), tmp_path, data=source(), resume="auto")
    status = read_status(tmp_path / "status.json")
    assert status is not None
    assert (status.state, status.exit) == ("failed", 1)
    assert "No space left" in (status.error or "")
    assert is_whole(tmp_path / "checkpoints" / "step-00000005.pt")


def test_a_copy_does_not_follow_the_original() -> None:
    weights = {"a": [torch.zeros(2)]}
    copy = host_copy(weights)
    weights["a"][0].fill_(1.0)
    assert torch.equal(copy["a"][0], torch.zeros(2))


@pytest.mark.parametrize("rule", ["fa", "usf", "frsf", "brsf", "signed-init"])
def test_feedback_is_part_of_a_checkpoint(tmp_path: Path, rule: str) -> None:
    train(recipe("train.epochs=1", rule=rule), tmp_path, data=source())
    state = read_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert state["model"]["scales"]
    assert bool(state["model"]["feedback"]) == (rule != "usf")
    assert bool(state["model"]["redraws"]) == (rule == "brsf")


def test_a_checkpoint_of_another_policy_is_refused(tmp_path: Path) -> None:
    train(recipe("train.epochs=1", rule="fa"), tmp_path, data=source())
    with pytest.raises(TrainError, match="another model or policy"):
        train(recipe(rule="usf"), tmp_path, data=source(), resume="auto")


def test_a_run_does_not_go_back_in_its_own_folder(tmp_path: Path) -> None:
    train(recipe("checkpoint.keep=5"), tmp_path / "run", data=source())
    earlier = tmp_path / "run" / "checkpoints" / "step-00000005.pt"
    with pytest.raises(ConfigError, match="has gone on since"):
        train(recipe(), tmp_path / "run", data=source(), resume=earlier)
    outcome = train(recipe(), tmp_path / "other", data=source(), resume=earlier)
    assert (outcome.state, outcome.step) == ("done", 15)


def test_a_recipe_may_change_on_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(recipe("train.epochs=1"), tmp_path, data=source())
    train(recipe("optim.lr=0.5"), tmp_path, data=source(), resume="auto")
    assert "changed since the run began: optim.lr: 0.05 -> 0.5" in capsys.readouterr().err
    state = read_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert state["optimizer"]["param_groups"][0]["initial_lr"] == 0.5
