"""torchrun and its signals, as a user meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fxbio.train.output.status import Status, read_status
from fxbio.train.state.checkpoint_files import read_checkpoint
from tests.train.test_resume import assert_same, final, metrics
from tests.train.test_two_ranks import free_port
from tests.train.tiny import MODELS

RECIPE = f"""\
model: {{reference: "{MODELS}:conv", args: {{classes: 10}}}}
policy: {{rule: brsf}}
data: {{name: digits, augment: flip, workers: 1}}
optim: {{lr: 0.05, options: {{momentum: 0.9}}}}
train: {{epochs: 3, batch_size: 64, device: cpu}}
"""
PATIENCE = 100.0

pytestmark = pytest.mark.slow


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Train in two processes with a worker each."""
    (folder / "recipe.yaml").write_text(RECIPE)
    return run(folder, "fxbio", "train", "recipe.yaml", "--nproc", "2", *arguments)


def run(folder: Path, *module: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", *module]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_files(files: list[Path], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not all(file.exists() for file in files):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    path = folder / "metrics.jsonl"
    while time.monotonic() < deadline:
        if path.exists() and any(
            json.loads(line)["step"] >= step for line in path.read_text().splitlines()
        ):
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    raise AssertionError("the run did not get so far")


def status(folder: Path) -> Status:
    found = read_status(folder / "status.json")
    assert found is not None
    return found


def test_an_error_in_all_processes_ends_them_all(tmp_path: Path) -> None:
    failing = start(tmp_path, "--out", "failing", "model.args.classes=3")
    said = failing.communicate(timeout=PATIENCE)[1]
    assert failing.returncode == 2, said
    assert said.count("error: ") == 1, said
    assert not (tmp_path / "failing").exists()


def test_sigterm_under_torchrun_saves_and_the_run_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    straight = start(tmp_path, "--out", "straight", "log.every_steps=1")
    said = straight.communicate(timeout=PATIENCE)[1]
    assert straight.returncode == 0, said

    stopped = start(tmp_path, "--out", "stopped", "log.every_steps=1")
    wait_for_step(tmp_path / "stopped", 5, stopped)
    stopped.send_signal(signal.SIGTERM)
    said = stopped.communicate(timeout=PATIENCE)[1]
    assert stopped.returncode == 143, said
    assert "SIGTERM: saving after this step" in said
    assert "DataLoader worker" not in said
    found = status(tmp_path / "stopped")
    assert (found.state, found.exit) == ("preempted", 143)
    assert 5 <= found.step < found.steps

    resumed = start(tmp_path, "--out", "stopped", "--resume", "auto", "log.every_steps=1")
    said = resumed.communicate(timeout=PATIENCE)[1]
    assert resumed.returncode == 0, said
    assert f"continuing at step {found.step}" in said
    assert status(tmp_path / "stopped").state == "done"
    one, other = (
        read_checkpoint(tmp_path / name / "checkpoints" / "last.pt")
        for name in ("straight", "stopped")
    )
    assert_same(one, other)
    assert metrics(tmp_path / "straight") == metrics(tmp_path / "stopped")


def test_sigterm_before_training_ends_all_processes(tmp_path: Path) -> None:
    model = [f"model.reference={MODELS}:waiting", f"model.args={{marker: {tmp_path / 'built'}}}"]
    stopped = start(tmp_path, "--out", "run", *model)
    wait_for_files([tmp_path / "built-0", tmp_path / "built-1"], stopped)
    stopped.send_signal(signal.SIGTERM)
    said = stopped.communicate(timeout=PATIENCE)[1]
    assert stopped.returncode == 143, said
    assert said == "SIGTERM: leaving, nothing was trained yet\n"
    assert (status(tmp_path / "run").state, status(tmp_path / "run").exit) == ("preempted", 143)


def test_a_killed_process_ends_the_run_or_torchrun_starts_it_again(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    (tmp_path / "ready").touch()
    model = [f"model.reference={MODELS}:fragile", "train.epochs=2", "checkpoint.every_steps=2"]
    straight = start(tmp_path, "--out", "straight", *model, "model.args={marker: ready}")
    said = straight.communicate(timeout=PATIENCE)[1]
    assert straight.returncode == 0, said

    killed = start(tmp_path, "--out", "killed", *model, "model.args={marker: once}")
    said = killed.communicate(timeout=PATIENCE)[1]
    assert killed.returncode == 1, said
    assert "error: process 1 was ended by SIGKILL" in said
    assert status(tmp_path / "killed").state == "failed"
    assert "another process of this run is gone" in (status(tmp_path / "killed").error or "")

    agent = ["--nproc-per-node=2", "--max-restarts=1", "--master-addr=127.0.0.1"]
    agent.append(f"--master-port={free_port()}")
    arguments = ["--out", "restarted", "--resume", "auto", *model, "model.args={marker: again}"]
    restarted = run(
        tmp_path, "torch.distributed.run", *agent, "-m", "fxbio", "train", "recipe.yaml", *arguments
    )
    said = restarted.communicate(timeout=PATIENCE)[1]
    assert restarted.returncode == 0, said
    assert "continuing at step" in said
    assert_same(final(tmp_path / "restarted"), final(tmp_path / "straight"))
    assert metrics(tmp_path / "restarted") == metrics(tmp_path / "straight")
