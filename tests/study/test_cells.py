from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fxbio.errors import ConfigError
from fxbio.study.cells import Cell

Cells = Callable[[str], tuple[Cell, ...]]
Rules = Callable[[Cell], list[str]]


def axis(settings: str, rules: str = "[fa]") -> str:
    return f"rules: {rules}\naxes:\n  - {{name: a, {settings}}}\n"


def table(found: tuple[Cell, ...], rules: Rules) -> dict[str, list[str]]:
    assert found[0].unit == "base"
    assert rules(found[0]) == ["bp"] * 4
    return {cell.unit: rules(cell) for cell in found[1:]}


def test_each_layer(cells: Cells, rules: Rules) -> None:
    assert table(cells(axis("unit: layer")), rules) == {
        "stem.0": ["fa", "bp", "bp", "bp"],
        "body.1": ["bp", "fa", "bp", "bp"],
        "body.3": ["bp", "bp", "fa", "bp"],
        "head": ["bp", "bp", "bp", "fa"],
    }


def test_each_stage(cells: Cells, rules: Rules) -> None:
    assert table(cells(axis("unit: stage")), rules) == {
        "stem": ["fa", "bp", "bp", "bp"],
        "body": ["bp", "fa", "fa", "bp"],
        "head": ["bp", "bp", "bp", "fa"],
    }


def test_each_block(cells: Cells, rules: Rules) -> None:
    assert table(cells(axis("unit: block, blocks: [body]")), rules) == {
        "stem.0": ["fa", "bp", "bp", "bp"],
        "body": ["bp", "fa", "fa", "bp"],
        "head": ["bp", "bp", "bp", "fa"],
    }


def test_each_op(cells: Cells, rules: Rules) -> None:
    assert table(cells(axis("unit: op")), rules) == {
        "conv2d": ["fa", "bp", "bp", "bp"],
        "linear": ["bp", "fa", "fa", "fa"],
    }


def test_prefix_leaves_backprop_above(cells: Cells, rules: Rules) -> None:
    assert table(cells(axis("unit: layer, scheme: prefix")), rules) == {
        "up to stem.0": ["fa", "bp", "bp", "bp"],
        "up to body.1": ["fa", "fa", "bp", "bp"],
        "up to body.3": ["fa", "fa", "fa", "bp"],
        "up to head": ["fa", "fa", "fa", "fa"],
    }


def test_suffix(cells: Cells, rules: Rules) -> None:
    assert table(cells(axis("unit: stage, scheme: suffix")), rules) == {
        "from stem": ["fa", "fa", "fa", "fa"],
        "from body": ["bp", "fa", "fa", "fa"],
        "from head": ["bp", "bp", "bp", "fa"],
    }


def test_leave_one_out_within_a_selector(cells: Cells, rules: Rules) -> None:
    found = cells(axis("unit: layer, scheme: leave-one-out, within: {not: {last: true}}"))
    assert table(found, rules) == {
        "all but stem.0": ["bp", "fa", "fa", "bp"],
        "all but body.1": ["fa", "bp", "fa", "bp"],
        "all but body.3": ["fa", "fa", "bp", "bp"],
    }


def test_policies(cells: Cells, rules: Rules, folder: Path) -> None:
    (folder / "all-usf.yaml").write_text("version: 1\ndefault: usf\n")
    found = cells("axes:\n  - {name: papers, policies: [all-usf.yaml]}\n")
    assert table(found, rules) == {"all-usf": ["usf"] * 4}


def test_an_option(cells: Cells, rules: Rules) -> None:
    option = "{rule: fa, option: magnitude, values: [0.5, xiao]}"
    found = cells(f"axes:\n  - {{name: m, option: {option}, within: {{op: conv}}}}\n")
    assert table(found, rules) == {
        "magnitude=0.5": ["fa", "bp", "bp", "bp"],
        "magnitude=xiao": ["fa", "bp", "bp", "bp"],
    }
    assert "magnitude: 0.5" in found[1].policy


def test_rules_are_crossed_and_the_control_freezes(cells: Cells, rules: Rules) -> None:
    found = cells("control: true\n" + axis("unit: stage", "[fa, {rule: usf, name: signs}]"))
    columns = [(cell.rule, rules(cell)[0]) for cell in found if cell.unit == "stem"]
    assert columns == [("fa", "fa"), ("signs", "usf"), ("frozen", "frozen")]


def test_an_entry_is_appended_to_the_base(cells: Cells, rules: Rules, folder: Path) -> None:
    (folder / "base.yaml").write_text("version: 1\ndefault: usf\n")
    found = cells("overrides: [policy.file=base.yaml]\n" + axis("unit: layer"))
    assert rules(found[1]) == ["fa", "usf", "usf", "usf"]


def test_cells_with_the_same_policy_share_their_runs(cells: Cells) -> None:
    found = cells(
        "rules: [fa]\naxes:\n  - {name: each, unit: layer}\n"
        "  - {name: below, unit: layer, scheme: prefix}\n"
    )
    runs = {(cell.axis, cell.unit): cell.run for cell in found}
    assert runs["below", "up to stem.0"] == runs["each", "stem.0"] == "each/stem.0/fa"
    assert runs["below", "up to body.1"] == "below/up-to-body.1/fa"


@pytest.mark.parametrize(
    "text",
    [
        axis("unit: layer", "[fa, {rule: fa, options: {magnitude: 1.0}}]"),
        "rules: [fa]\naxes:\n  - {name: a, unit: layer}\n  - {name: a, unit: layer}\n",
    ],
)
def test_cells_that_collide(cells: Cells, text: str) -> None:
    with pytest.raises(ConfigError, match="two cells of the study have the same place") as caught:
        cells(text)
    assert "axis 'a', stem.0, rule fa" in str(caught.value)
    assert "give axes different names" in str(caught.value)
    assert "study.yaml:" in str(caught.value)


@pytest.mark.parametrize(
    ("seeds", "axes", "message"),
    [
        (25_000, 4, "5 cells or more, with 25,000 seeds each"),
        (1, 3, "11 cells or more, with 1 seeds each"),
    ],
)
def test_a_study_that_nobody_can_run(
    cells: Cells, monkeypatch: pytest.MonkeyPatch, seeds: int, axes: int, message: str
) -> None:
    if seeds == 1:
        monkeypatch.setattr("fxbio.study.cells._MOST_CELLS", 10)
    listed = "".join(f"  - {{name: a{k}, unit: layer}}\n" for k in range(axes))
    with pytest.raises(ConfigError, match=message) as caught:
        cells(f"seeds: {list(range(seeds))}\nrules: [fa]\naxes:\n{listed}")
    assert caught.value.location is not None
    assert caught.value.location.text.endswith("unit: layer}")
    assert "cut the study into several" in str(caught.value)


def test_an_axis_that_matches_no_layer(cells: Cells) -> None:
    with pytest.raises(ConfigError) as caught:
        cells(axis("unit: layer, within: {module: heat}"))
    text = str(caught.value)
    assert text.startswith("the axis 'a' matches no layer of Net")
    assert "study.yaml:8:36" in text
    assert "did you mean 'head'?" in text


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("unit: layer, scheme: leave-one-out, within: {module: head}", "has only 'head'"),
        ("unit: block, blocks: [torso]", "'torso' matches no module of Net"),
    ],
)
def test_an_axis_that_cannot_be(cells: Cells, config: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        cells(axis(config))
    assert "study.yaml:8:" in str(caught.value)
