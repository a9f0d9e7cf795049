from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from tests.train.test_resume import assert_same

pytest.importorskip("sklearn")

RECIPE = """\
model: {reference: model.py, args: {width: 4}}
policy: {file: ss.yaml}
data: {name: digits, channels: 3, workers: 0}
optim: {lr: 0.1}
train: {epochs: 1, batch_size: 256, device: cpu}
"""

Command = Callable[..., Result]


@pytest.fixture
def recipe(folder: Path) -> Path:
    model = (folder / "model.py").read_text()
    (folder / "model.py").write_text(model.replace("nn.Linear(width, 2)", "nn.Linear(width, 10)"))
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def test_a_dry_run_tells_the_plan_and_writes_nothing(recipe: Path, fxbio_command: Command) -> None:
    result = fxbio_command("train", "recipe.yaml", "optim.lr=0.2", "--dry-run")
    assert result.exit_code == 0, result.output
    for text in (
        "rules    usf: 2 weights",
        "batch    256 = 1 process x 256 samples, on cpu in fp32",
        "lr 0.2 for the whole batch",
        "1 epochs x 5 steps = 5 steps",
        "memory",
        "nothing was written",
    ):
        assert text in result.stderr
    assert not (recipe / "runs").exists()


def test_a_run_is_trained_listed_and_evaluated(recipe: Path, fxbio_command: Command) -> None:
    result = fxbio_command("train", "recipe.yaml")
    assert result.exit_code == 0, result.output
    done, again = result.stderr.splitlines()[-2:]
    assert done.startswith("runs/recipe: done, best top1 ")
    assert again == "evaluate it again with: fxbio eval runs/recipe"
    run = recipe / "runs" / "recipe"
    assert {path.name for path in run.iterdir()} == {
        "checkpoints",
        "config.yaml",
        "env.json",
        "log.txt",
        "metrics.jsonl",
        "plan.json",
        "plan.md",
        "policy.yaml",
        "signature",
        "status.json",
    }
    assert (run / "policy.yaml").read_text() == (recipe / "ss.yaml").read_text()
    assert json.loads((run / "env.json").read_text())["processes"] == 1

    listed = json.loads(fxbio_command("runs", "--json").stdout)
    assert [(row["name"], row["status"]["state"]) for row in listed] == [("recipe", "done")]
    assert "recipe" in fxbio_command("runs").stdout

    evaluated = fxbio_command("eval", "runs/recipe", "--json")
    assert evaluated.exit_code == 0, evaluated.output
    expected = json.loads((run / "status.json").read_text())["metrics"]
    best = {"checkpoint": "runs/recipe/checkpoints/best.pt", "step": 5}
    assert json.loads(evaluated.stdout) == {**best, **expected}
    last = fxbio_command("eval", "runs/recipe", "--checkpoint", "last").stdout
    assert last.startswith("runs/recipe/checkpoints/last.pt, step 5: loss ")
    assert "(359 samples)" in last


def test_a_run_is_not_replaced_by_accident(recipe: Path, fxbio_command: Command) -> None:
    assert fxbio_command("train", "recipe.yaml").exit_code == 0
    refused = fxbio_command("train", "recipe.yaml")
    assert refused.exit_code == 2
    assert "--resume auto" in refused.stderr
    assert "--overwrite" in refused.stderr

    wrong = fxbio_command("train", "recipe.yaml", "optim.name=SDG", "--overwrite")
    assert wrong.exit_code == 2
    assert (recipe / "runs/recipe/checkpoints/last.pt").exists()

    assert fxbio_command("train", "recipe.yaml", "--overwrite").exit_code == 0
    again = fxbio_command("train", "recipe.yaml", "--resume", "auto", "train.epochs=2")
    assert again.exit_code == 0
    assert "continuing at step 5" in again.stderr


STOPPING = """
import os, signal
from torch import nn

class Net(nn.Sequential):
    steps = 0

    def forward(self, x):
        Net.steps += self.training and x.requires_grad is False and len(x) == 256
        if Net.steps == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().forward(x)

def build_model(classes):
    return Net(nn.Flatten(), nn.Linear(192, classes))
"""


def test_a_stopped_run_says_what_goes_on(
    recipe: Path, fxbio_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recipe / "stopping.py").write_text(STOPPING)
    settings = ("model.reference=stopping.py", "model.args={classes: 10}", "policy.file=null")
    result = fxbio_command("train", "recipe.yaml", *settings, "-o", "a b")
    assert result.exit_code == 143, result.output
    saved, go_on = result.stderr.splitlines()[-2:]
    assert saved == "saved at step 3, leaving"
    command = go_on.removeprefix("go on with: fxbio ")
    continued = fxbio_command(*shlex.split(command))
    assert continued.exit_code == 0, continued.output
    assert "continuing at step 3" in continued.stderr


def test_only_runs_are_overwritten(recipe: Path, fxbio_command: Command) -> None:
    result = fxbio_command("train", "recipe.yaml", "--out", ".", "--overwrite")
    assert result.exit_code == 2
    assert "not a run of fxbio train" in result.stderr
    assert (recipe / "recipe.yaml").exists()


def test_a_diverged_run_exits_with_1(recipe: Path, fxbio_command: Command) -> None:
    result = fxbio_command("train", "recipe.yaml", "optim.lr=1e38", "train.epochs=2")
    assert result.exit_code == 1
    assert "is not finite in step" in result.stderr
    assert "diverged" in fxbio_command("runs").stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("train", "recipi.yaml"), "did you mean 'recipe.yaml'"),
        (("train", "recipe.yaml", "optim.lrr=1"), "did you mean 'lr'"),
        (("train", "recipe.yaml", "--resume", "nope.pt"), "there is no checkpoint"),
        (("eval", "runs/recipe", "--checkpoint", "first"), "allowed: best, last, or a file"),
        (("train", "recipe.yaml", "--resume", "auto", "--overwrite"), "give one of the two"),
        (("eval", "nope"), "is not a run of fxbio train"),
    ],
)
def test_wrong_usage_exits_with_2(
    recipe: Path, fxbio_command: Command, arguments: tuple[str, ...], text: str
) -> None:
    result = fxbio_command(*arguments)
    assert result.exit_code == 2
    assert text in result.stderr


INVERSES = """\
import math
import torch
from torch import nn


class Inverse(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.shape = block.input_shape[1:]
        self.layer = nn.Linear(math.prod(block.output_shape[1:]), math.prod(self.shape))

    def forward(self, h):
        return torch.tanh(self.layer(h.flatten(1))).reshape(-1, *self.shape)
"""
OWN_INVERSES = """\
model: {reference: "net.py:build"}
policy: {file: policies/dtp.yaml}
data: {name: digits, workers: 0}
optim: {name: Adam, lr: 3e-3}
train: {epochs: 2, batch_size: 256, device: cpu}
"""
NET = """\
from torch import nn


def build():
    layers = nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 10)
    return nn.Sequential(nn.Flatten(), *layers)
"""
GENERATED = """\
model: {reference: "net.py:build"}
data: {name: shapes, path: shapes, image_size: 8, workers: 0}
train: {epochs: 1, batch_size: 500, device: cpu}
"""


@pytest.mark.parametrize("where", ["policy", "recipe"])
def test_inverses_from_a_file_are_found_from_any_folder(
    folder: Path, fxbio_command: Command, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (folder / "policies").mkdir()
    (folder / "elsewhere").mkdir()
    (folder / "net.py").write_text(NET)
    (folder / "policies" / "inverses.py").write_text(INVERSES)
    policy = "version: 1\ndefault: {rule: dtp, with: {inverse: 'inverses.py:Inverse'}}\n"
    (folder / "policies" / "dtp.yaml").write_text(policy)
    recipe = OWN_INVERSES
    if where == "recipe":
        rule = '{rule: dtp, options: {inverse: "policies/inverses.py:Inverse"}}'
        recipe = recipe.replace("{file: policies/dtp.yaml}", rule)
    (folder / "own.yaml").write_text(recipe)
    monkeypatch.chdir(folder / "elsewhere")
    asked = ("train", "../own.yaml", "--out", "run", "--resume", "auto")
    assert fxbio_command(*asked, "train.epochs=1").exit_code == 0
    continued = fxbio_command(*asked)
    assert continued.exit_code == 0, continued.output
    monkeypatch.chdir(folder / "policies")
    evaluated = fxbio_command("eval", "../elsewhere/run", "--json")
    assert evaluated.exit_code == 0, evaluated.output
    straight = fxbio_command("train", "../own.yaml", "--out", "../straight")
    assert straight.exit_code == 0, straight.output
    runs = (folder / "straight", folder / "elsewhere" / "run")
    one, other = (torch.load(run / "checkpoints" / "last.pt", weights_only=True) for run in runs)
    inverse = [name for name in one["model"]["weights"] if name.endswith("inverse.layer.weight")]
    assert len(inverse) == 1
    assert_same(other["model"], one["model"])


def test_data_is_found_again_from_any_folder(
    folder: Path, fxbio_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "net.py").write_text(NET.replace("64, 32", "192, 32").replace("16, 10", "16, 5"))
    data = "{name: shapes, path: data/shapes, image_size: 8, workers: 0}"
    recipe = OWN_INVERSES.replace("{file: policies/dtp.yaml}", "{rule: fa}")
    (folder / "own.yaml").write_text(recipe.replace("{name: digits, workers: 0}", data))
    assert fxbio_command("data", "make", "shapes", "data/shapes", "--images", "40").exit_code == 0
    monkeypatch.chdir(folder / "data")
    ran = fxbio_command("train", "../own.yaml", "--out", "../run", "train.batch_size=20")
    assert ran.exit_code == 0, ran.output
    monkeypatch.chdir(folder / "run")
    evaluated = fxbio_command("eval", ".", "--json")
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads(evaluated.stdout)["samples"] == 10
    moved = folder / "moved"
    (folder / "data" / "shapes").rename(moved)
    monkeypatch.chdir(folder)
    again = fxbio_command("eval", "run", "data.path=moved", "--json")
    assert json.loads(again.stdout) == {
        **json.loads(evaluated.stdout),
        "checkpoint": "run/checkpoints/best.pt",
    }


def test_nothing_is_generated_to_be_evaluated_on(folder: Path, fxbio_command: Command) -> None:
    (folder / "net.py").write_text(NET.replace("64, 32", "192, 32").replace("16, 10", "16, 5"))
    (folder / "own.yaml").write_text(GENERATED)
    assert fxbio_command("train", "own.yaml", "--out", "run").exit_code == 0
    assert (folder / "shapes").is_dir()
    result = fxbio_command("eval", "run", "data.path=shape")
    assert result.exit_code == 2
    assert f"there is no folder {folder / 'shape'}" in result.stderr
    assert "did you mean 'shapes'?" in result.stderr
    assert not (folder / "shape").exists()


def test_a_dry_run_generates_nothing_that_stays(folder: Path, fxbio_command: Command) -> None:
    (folder / "net.py").write_text(NET.replace("64, 32", "192, 32").replace("16, 10", "16, 5"))
    (folder / "own.yaml").write_text(GENERATED)
    before = {path.name for path in folder.iterdir()}
    result = fxbio_command("train", "own.yaml", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "data     shapes, 1,000 for training, 250 for evaluation" in result.stderr
    assert f"there is nothing in {folder / 'shapes'}: a run generates it there" in result.stderr
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == before
