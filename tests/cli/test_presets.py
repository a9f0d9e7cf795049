from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

import fxbio
from fxbio.cli.main import cli
from fxbio.cli.options import PresetPath
from fxbio.files.presets import preset_paths, resolve_preset
from fxbio.train.config import load_recipe

PROJECT = ["model.py", "policy.yaml", "recipe.yaml", "study.yaml"]


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


@pytest.mark.parametrize("kind", ["policies", "recipes"])
def test_each_preset_is_listed_with_one_sentence(kind: str) -> None:
    listed = {item["name"]: item["title"] for item in json.loads(run(kind, "--json").stdout)}
    assert list(listed) == sorted(path.stem for path in preset_paths(kind).values())  # type: ignore[arg-type]
    assert all(len(title) > 20 and "\n" not in title for title in listed.values())


def test_a_preset_is_printed_as_it_is() -> None:
    printed = run("policies", "xiao-resnet").stdout
    assert yaml.safe_load(printed)["version"] == 1
    assert printed == preset_paths("policies")["xiao-resnet"].read_text()


def test_a_name_with_a_slip_is_told_with_its_neighbour() -> None:
    result = run("recipes", "digit")
    assert result.exit_code == 2
    assert "did you mean 'digits'" in result.stderr
    result = run("plan", "torchvision:resnet18", "--policy", "xiao-resnt")
    assert result.exit_code == 2
    assert "did you mean 'xiao-resnet'" in result.stderr


def test_a_file_of_the_same_name_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_preset("policies", "shallow") == preset_paths("policies")["shallow"]
    Path("shallow").write_text("version: 1\ndefault: fa\n")
    assert fxbio.Policy.from_yaml("shallow").default.name == "fa"


def test_a_named_policy_reads_as_its_file() -> None:
    file = preset_paths("policies")["xiao-resnet"]
    assert fxbio.Policy.from_yaml("xiao-resnet") == fxbio.Policy.from_yaml(file)


def test_data_of_a_named_recipe_lie_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe("shapes").data.path == tmp_path / "data" / "shapes"
    assert load_recipe("shapes", ["data.path=elsewhere"]).data.path == tmp_path / "elsewhere"


def test_a_new_project_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("new", "first").exit_code == 0
    assert sorted(path.name for path in Path("first").iterdir()) == PROJECT
    monkeypatch.chdir("first")
    made = run("data", "make", "shapes", "data/shapes", "--images", "50")
    assert made.exit_code == 0
    planned = run("plan", "model.py", "--policy", "policy.yaml")
    assert planned.exit_code == 0, planned.output
    trained = run("train", "recipe.yaml", "train.epochs=1", "log.alignment_every=0")
    assert trained.exit_code == 0, trained.output
    previewed = run("ablate", "study.yaml", "--dry-run")
    assert previewed.exit_code == 0, previewed.output


def test_a_project_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    result = run("new", str(tmp_path))
    assert result.exit_code == 2
    assert "is no empty folder" in result.stderr


def test_names_of_presets_are_completed() -> None:
    done = CliRunner().invoke(
        cli,
        env={
            "_FXBIO_COMPLETE": "bash_complete",
            "COMP_WORDS": "fxbio plan m.py --policy xiao-ret",
            "COMP_CWORD": "4",
        },
        prog_name="fxbio",
    )
    names = {line.partition(",")[2] for line in done.output.splitlines()}
    assert {"xiao-retinanet", "xiao-retinanet-fpn"} <= names


@pytest.mark.parametrize("command", ["plan", "transform", "verify", "audit", "alignment", "graph"])
def test_every_command_takes_the_name_of_a_policy(command: str) -> None:
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    policies = [p.type for p in found.params if "policy" in (p.name or "")]
    assert policies
    assert all(isinstance(each, PresetPath) for each in policies)
