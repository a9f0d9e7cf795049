from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fxbio.errors import ConfigError
from fxbio.train.config import load_recipe, recipe_from, recipe_yaml
from fxbio.train.config.write import differences

RECIPE = """\
model:
  reference: torchvision:resnet18
  args: {num_classes: 10}
optim:
  lr: 0.1
  options: {momentum: 0.9}
  groups:
    - where: {last: true}
      lr: 1
schedule: {name: multistep, milestones: [1, 2.5]}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_is_read_with_its_types(recipe: Path) -> None:
    read = load_recipe(recipe)
    assert read.model.args == {"num_classes": 10}
    assert read.schedule.milestones == (1.0, 2.5)
    assert read.optim.groups[0].lr == 1.0
    assert isinstance(read.optim.groups[0].lr, float)


def test_the_resolved_recipe_reads_back_as_an_equal_one(recipe: Path, tmp_path: Path) -> None:
    read = load_recipe(recipe, ["train.ema=0.99", "data.path=somewhere"])
    resolved = tmp_path / "config.yaml"
    resolved.write_text(recipe_yaml(read))
    assert load_recipe(resolved) == read
    assert differences(read, load_recipe(resolved, ["optim.lr=3"])) == ["optim.lr: 0.1 -> 3.0"]


def test_overrides_win_in_order(recipe: Path) -> None:
    read = load_recipe(
        recipe, ["optim.lr=1e-3", "optim.options.nesterov=true", "train.epochs=3", "train.epochs=4"]
    )
    assert read.optim.lr == 0.001
    assert read.optim.options == {"momentum": 0.9, "nesterov": True}
    assert read.train.epochs == 4


@pytest.mark.parametrize(
    ("word", "listed"),
    [
        ("optim.groups=[{params: feedback}]", "optim.groups=[{params: [feedback]}]"),
        ("optim.constraints=strict_norm", "optim.constraints=[strict_norm]"),
        ("train.phases=inverse", "train.phases=[inverse]"),
        ("policy.plugins=rules.py", "policy.plugins=[rules.py]"),
    ],
)
def test_one_word_is_a_list_of_it(recipe: Path, word: str, listed: str) -> None:
    assert load_recipe(recipe, [word]) == load_recipe(recipe, [listed]) != load_recipe(recipe)


def test_a_wrong_word_is_pointed_at_where_it_stands(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'feedback'") as caught:
        load_recipe(recipe, ["optim.groups=[{params: feedbak}]"])
    assert caught.value.location is not None
    assert caught.value.location.column == 24


def test_paths_are_relative_to_where_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "models.py").write_text("")
    (tmp_path / "recipes" / "r.yaml").write_text(
        "model: {reference: '../models.py:build'}\npolicy: {file: ss.yaml}\n"
        "data: {path: ../data/mine}\n"
    )
    monkeypatch.chdir(tmp_path)
    read = load_recipe("recipes/r.yaml", ["model.weights=w.pt"])
    assert Path(read.model.reference.removesuffix(":build")).samefile(tmp_path / "models.py")
    assert read.policy.file == tmp_path / "recipes" / "ss.yaml"
    assert read.model.weights == tmp_path / "w.pt"
    assert read.data.path == tmp_path / "data" / "mine"
    assert load_recipe("recipes/r.yaml", ["data.path=here"]).data.path == tmp_path / "here"
    assert load_recipe("recipes/r.yaml", ["data.path=~/x"]).data.path == Path.home() / "x"
    resolved = yaml.safe_load(recipe_yaml(read))
    assert resolved["data"]["path"] == str(tmp_path / "data" / "mine")


@pytest.mark.parametrize(
    ("line", "place", "texts"),
    [
        ("optim: {lrr: 1}", "recipe.yaml:2:9", ["unknown key 'lrr' in 'optim'", "'lr'"]),
        ("optim: {momentum: 1}", "2:9", ["unknown key", "options: {momentum: ...}"]),
        ("oprim: {lr: 1}", "2:1", ["unknown key 'oprim' in the recipe", "mean 'optim'"]),
        ("optim: {lr: fast}", "2:13", ["lr must be a number, not the text 'fast'"]),
        ("optim: {lr: 0}", "2:13", ["lr must be above 0, not 0.0"]),
        ("train: {precision: fp8}", "2:20", ["precision must be fp32 or bf16 or fp16"]),
        ("train: {epochs: 1.5}", "2:17", ["epochs must be a whole number"]),
        ("train: {compile: 1}", "2:18", ["compile must be true or false"]),
        ("schedule: {milestones: 3}", "2:24", ["milestones must be a list, not 3"]),
        ("schedule: {name: multistep}", "2:11", ["milestones must be given"]),
        (
            "data: {image_size: -3}",
            "2:20",
            ["must be from 0 to 8,192, not -3 (in 'data')"],
        ),
        ("data: {resize: 1000000000}", "2:16", ["resize must be from 0 to 8,192, not 1000000000"]),
        ("optim: {options: {lr: 1}}", "2:18", ["options cannot hold 'lr'", "write it beside"]),
        ("optim: {groups: [{options: {params: 1}}]}", "2:28", ["options cannot hold 'params'"]),
        ("schedule: {every: 1.0e-320}", "2:19", ["every must be from 1e-06 to 1,000,000"]),
        ("data: {min_area: 1.5}", "2:18", ["min_area must be from 0 to 1, not 1.5"]),
        ("data: {augment: imagnet}", "2:17", ["augment must be auto or", "mean 'imagenet'"]),
        ("data: {path: [a]}", "2:14", ["path must be a path, not a list"]),
        ("task: {mixup: -1}", "2:15", ["mixup must be at least 0, not -1.0 (in 'task')"]),
        ("task: {cutmix: 1.0e-320}", "2:16", ["cutmix must be from 0.001 to 1,000, not 1e-320"]),
        ("task: {label_smoothing: 2}", "2:25", ["label_smoothing must be from 0 to 1"]),
        ("train: 3", "2:8", ["'train' must be a mapping"]),
        ("optim: {lr: 1", "3:1", ["the recipe is not YAML"]),
    ],
)
def test_mistakes_in_a_file_are_pointed_at(
    tmp_path: Path, line: str, place: str, texts: list[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {{reference: x}}\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    assert all(text in str(caught.value) for text in (*texts, place))


@pytest.mark.parametrize(
    ("argument", "column", "text"),
    [
        ("optim.lr=fast", 10, "lr must be a number"),
        ("optim.nam=SGD", 7, "did you mean 'name'?"),
        ("oprim.lr=1", 1, "did you mean 'optim'?"),
        ("optim.lr.x=1", 7, "lr must be a number"),
        ("data.workers=-1", 14, "workers must be at least 0"),
        ("task.cutmix=-1", 13, "cutmix must be at least 0"),
        ("schedule.name.x=1", 10, "name must be"),
        ("schedule.warmup_epochs=1e308", 24, "warmup_epochs must be from 0 to 1,000,000"),
        (
            "schedule.milestones=[3, 1e308]",
            21,
            "must be from 0 to 1,000,000, not 1e+308",
        ),
        ("schedule.milestones=-1", 21, "milestones must be a list"),
        ("schedule.gamma=1e308", 16, "gamma must be from 0 to 1, not 1e+308"),
        ("schedule.final=2", 16, "final must be from 0 to 1"),
        ("train.eval_batch_size=9223372036854775808", 23, "eval_batch_size must be from 1 to"),
        ("data.image_size=100000", 17, "image_size must be from 0 to 8,192"),
        ("optim.options.weight_decay=1", 7, "options cannot hold 'weight_decay'"),
        ("optim.options={momentum: [}", 27, "the value is not YAML"),
        ("epochs", 1, "write section.key=value"),
        ("optim..lr=1", 1, "write section.key=value"),
    ],
)
def test_mistakes_in_arguments_are_pointed_at(argument: str, column: int, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_from({"model": {"reference": "x"}}, [argument])
    assert text in str(caught.value)
    assert caught.value.location is not None
    assert caught.value.location.column == column
    assert caught.value.location.text == argument


@pytest.mark.parametrize("argument", ["policy.rule=fa", "policy.rule=bp", "policy.options={x: 1}"])
def test_a_rule_beside_a_policy_file_is_refused_and_not_ignored(argument: str) -> None:
    sections = {"model": {"reference": "x"}, "policy": {"file": "ss.yaml"}}
    with pytest.raises(ConfigError, match="stands beside a policy file") as caught:
        recipe_from(sections, [argument])
    assert caught.value.location is not None
    assert caught.value.location.text == argument
    assert recipe_from(sections, ["policy.file=null", argument]).policy.file is None


def test_what_a_scalar_is_cannot_be_gone_into(recipe: Path) -> None:
    with pytest.raises(ConfigError, match=r"'optim\.lr' has nothing below it"):
        load_recipe(recipe, ["optim.lr.x=1"])


def test_a_recipe_needs_a_model() -> None:
    with pytest.raises(ConfigError, match="the recipe has no 'model'"):
        recipe_from({})


def test_a_missing_recipe_is_an_error_with_close_matches(recipe: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'recipe\.yaml'"):
        load_recipe(recipe.with_name("recipi.yaml"))
