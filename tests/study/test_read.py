from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fxbio.errors import ConfigError
from fxbio.study.read_study import load_study

AXES = "axes:\n  - {name: a, unit: layer}\n"

WRONG = {
    "rules: [fa]\naxis: []\n": ("unknown key 'axis' in the study", "7:1", "did you mean 'axes'"),
    "rules: [faa]\n" + AXES: ("unknown rule 'faa'", "6:9", "did you mean 'fa'"),
    "rules: [{rule: fa, options: {magnitud: 1}}]\n" + AXES: (
        "no option 'magnitud'",
        "6:30",
        "did you mean 'magnitude'",
    ),
    AXES: ("the axis 'a' has no rules", "7:5", "rules: [fa, usf]"),
    "axes: []\n": ("axes is empty", "6:7", ""),
    "seeds: [0, 0]\nrules: [fa]\n" + AXES: ("seeds must be different numbers", "6:8", ""),
    "rules: [fa]\naxes:\n  - {name: a, unit: layers}\n": (
        "unit must be layer or",
        "8:21",
        "'layer'",
    ),
    "rules: [fa]\naxes:\n  - {name: a}\n": ("an axis needs unit, policies or", "8:12", ""),
    "axes:\n  - {name: a, unit: layer, policies: [a.yaml]}\n": (
        "policies stands beside unit",
        "7:38",
        "",
    ),
    "rules: [fa]\naxes:\n  - {name: a, unit: layer, within: {modul: b}}\n": (
        "unknown key 'modul'",
        "8:37",
        "did you mean 'module'",
    ),
    "axes:\n  - {name: a, option: {rule: fa, option: magnitude, values: [0.1, wide]}}\n": (
        "magnitude",
        "7:67",
        "",
    ),
    "rules: [fa]\naxes:\n  - {name: a, unit: block, blocks: [b, '***']}\n": (
        "malformed glob '***'",
        "8:40",
        "any number of segments",
    ),
    'rules: [fa]\naxes:\n  - {name: "a\\0", unit: layer}\n': ("control character", "8:12", ""),
    "axes:\n  - {name: a, policies: [nowhere.yaml]}\n": (
        "there is no policy file",
        "7:26",
        "",
    ),
    "overrides: [train.epoch=3]\nrules: [fa]\n" + AXES: (
        "unknown key 'epoch'",
        "argument:1:7",
        "did you mean 'epochs'",
    ),
}


@pytest.mark.parametrize("text", WRONG, ids=[message for message, *_ in WRONG.values()])
def test_mistakes_are_pointed_at(write: Callable[..., Path], text: str) -> None:
    headline, place, note = WRONG[text]
    with pytest.raises(ConfigError) as caught:
        load_study(write(text))
    found = str(caught.value)
    assert headline in found.splitlines()[0]
    assert f":{place}" in found or place in found
    assert note in found


def test_a_missing_file(write: Callable[..., Path]) -> None:
    write(AXES)
    with pytest.raises(ConfigError, match=r"there is no study 'stduy\.yaml'") as caught:
        load_study("stduy.yaml")
    assert "did you mean 'study.yaml'?" in str(caught.value)


def test_a_recipe_file_relative_to_the_study(folder: Path) -> None:
    (folder / "recipe.yaml").write_text("model: {reference: model.py}\n")
    below = folder / "below"
    below.mkdir()
    (below / "s.yaml").write_text(
        "recipe: ../recipe.yaml\noverrides: [optim.lr=0.5]\nrules: [fa]\n" + AXES
    )
    study = load_study(below / "s.yaml")
    assert study.recipe.model.reference == str(folder / "model.py")
    assert study.recipe.optim.lr == 0.5
    assert study.name == "s"


def test_one_word_is_a_list_of_it(write: Callable[..., Path]) -> None:
    one = load_study(write("overrides: optim.lr=0.5\nrules: fa\n" + AXES))
    listed = load_study(write("overrides: [optim.lr=0.5]\nrules: [fa]\n" + AXES))
    assert one.recipe.optim.lr == listed.recipe.optim.lr == 0.5
    assert [rule.label for axis in one.axes for rule in axis.rules] == ["fa"]
