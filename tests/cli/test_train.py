from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

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
        "batch    256 = 1 processes x 256 samples, on cpu in fp32",
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
    assert json.loads(evaluated.stdout) == {"step": 5, **expected}
    assert "(359 samples)" in fxbio_command("eval", "runs/recipe", "--checkpoint", "last").stdout


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
