from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from torch import nn

from fxbio.models import load_reference

Command = Callable[..., Result]
TRANSFORM = ("transform", "model.py", "--policy", "ss.yaml")


def test_transform_writes_a_folder_that_verifies_from_anywhere(
    fxbio_command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = fxbio_command(*TRANSFORM)
    assert result.exit_code == 0, result.stderr
    assert "backbone.0" in result.stdout
    assert "wrote model-ss/" in result.stderr
    assert "next: fxbio verify model-ss" in result.stderr
    files = {str(p.relative_to(folder / "model-ss")) for p in (folder / "model-ss").rglob("*")}
    assert {"plan.md", "plan.json", "policy.yaml", "record.json", "weights.pt"} <= files
    torch.load(folder / "model-ss" / "weights.pt", weights_only=True)

    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    verified = fxbio_command("verify", "../model-ss")
    assert verified.exit_code == 0, verified.stderr
    assert "backbone.0" in verified.stdout


def test_json_is_all_there_is_on_stdout(fxbio_command: Command, folder: Path) -> None:
    result = fxbio_command(*TRANSFORM, "--json", "-o", "out")
    data = json.loads(result.stdout)
    assert data["folder"] == "out"
    assert data["verification"]["ok"] is True
    assert len(data["plan"]["assignments"]) == 3
    assert json.loads((folder / "out" / "plan.json").read_text()) == data["plan"]


def test_no_verify(fxbio_command: Command, folder: Path) -> None:
    result = fxbio_command(*TRANSFORM, "--json", "--no-verify")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["verification"] is None


def test_an_existing_folder_is_kept_unless_told_otherwise(
    fxbio_command: Command, folder: Path
) -> None:
    (folder / "model-ss").mkdir()
    (folder / "model-ss" / "precious.txt").write_text("mine")
    result = fxbio_command(*TRANSFORM)
    assert result.exit_code == 2
    assert "'model-ss' exists already" in result.stderr
    assert [p.name for p in (folder / "model-ss").iterdir()] == ["precious.txt"]
    refused = fxbio_command(*TRANSFORM, "--overwrite")
    assert refused.exit_code == 2
    assert "'model-ss' is not a transformed model" in refused.stderr
    assert [p.name for p in (folder / "model-ss").iterdir()] == ["precious.txt"]
    (folder / "model-ss" / "precious.txt").unlink()
    assert fxbio_command(*TRANSFORM, "--overwrite").exit_code == 0
    assert fxbio_command(*TRANSFORM, "--overwrite").exit_code == 0


def test_a_failure_leaves_nothing_behind(fxbio_command: Command, folder: Path) -> None:
    (folder / "ss.yaml").write_text("version: 1\ndefault: usff\n")
    result = fxbio_command(*TRANSFORM)
    assert result.exit_code == 2
    assert "did you mean 'usf'" in result.stderr
    assert sorted(p.name for p in folder.iterdir() if p.suffix in ("", ".tmp")) in (
        [],
        ["__pycache__"],
    )


def test_a_failed_verification_writes_nothing_and_exits_1(
    fxbio_command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fxbio

    class Failed:
        ok = False

        def render(self) -> str:
            return "backbone.0 runs backprop"

    monkeypatch.setattr(fxbio, "verify", lambda *args: Failed())
    result = fxbio_command(*TRANSFORM)
    assert result.exit_code == 1
    assert "backbone.0 runs backprop" in result.stdout
    assert "nothing was written" in result.stderr
    assert not (folder / "model-ss").exists()
    assert fxbio_command("verify", "model.py", "--policy", "ss.yaml").exit_code == 1


def test_the_folder_knows_how_its_model_was_built(fxbio_command: Command, folder: Path) -> None:
    import fxbio

    options = ("--model-arg", "width=6", "--input", "1x3x9x9", "--weights", "weights.pt")
    torch.save(_net(folder, width=6).state_dict(), "weights.pt")
    result = fxbio_command(*TRANSFORM, *options)
    assert result.exit_code == 0, result.stderr
    loaded = fxbio.load("model-ss").state_dict()
    saved = torch.load("weights.pt", weights_only=True)
    assert list(loaded) == list(saved)
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)


def _net(folder: Path, **arguments: object) -> nn.Module:
    return load_reference(str(folder / "model.py"), arguments).model


def test_passes_can_be_watched(fxbio_command: Command, folder: Path) -> None:
    result = fxbio_command(*TRANSFORM, "--time-passes", "--print-between-passes", "--json")
    assert result.exit_code == 0, result.stderr
    json.loads(result.stdout)
    assert " ms  bind-modules" in result.stderr
    assert "== after lower-feedback" in result.stderr


def test_a_pipeline_of_ones_own(fxbio_command: Command, folder: Path) -> None:
    result = fxbio_command(*TRANSFORM, "--pipeline", "assign-rulse")
    assert result.exit_code == 2
    assert "did you mean 'assign-rules'" in result.stderr


def test_verify_of_a_model_with_a_policy(fxbio_command: Command, folder: Path) -> None:
    result = fxbio_command("verify", "model.py", "--policy", "ss.yaml", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["ok"] is True


def test_verify_of_a_folder_takes_no_policy(fxbio_command: Command, folder: Path) -> None:
    (folder / "made").mkdir()
    result = fxbio_command("verify", "made", "--policy", "ss.yaml")
    assert result.exit_code == 2
    assert "has its own policy" in result.stderr
