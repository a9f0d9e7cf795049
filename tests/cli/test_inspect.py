from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from fxbio.cli.inspect import summary, unreachable_table
from fxbio.site import Origin, Site, Unreachable

Command = Callable[..., Result]


@pytest.mark.usefixtures("folder")
def test_the_sites_are_listed_in_order_of_execution(fxbio_command: Command) -> None:
    result = fxbio_command("inspect", "model.py")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert rows["backbone.0"][1:3] == ["conv2d", "4×3×3×3"]
    names = [line.split()[0] for line in lines if line.startswith(("backbone", "head"))]
    assert names == ["backbone.0", "backbone.2", "head"]
    assert "3 sites, 3 weights" in result.stdout


@pytest.mark.usefixtures("folder")
def test_json(fxbio_command: Command) -> None:
    result = fxbio_command("inspect", "model.py", "--json", "--model-arg", "width=6")
    data = json.loads(result.stdout)
    assert [site["name"] for site in data["sites"]] == ["backbone.0", "backbone.2", "head"]
    assert data["sites"][0]["shape"] == [6, 3, 3, 3]


@pytest.mark.usefixtures("folder")
def test_an_input_given_on_the_command_line_wins(fxbio_command: Command) -> None:
    result = fxbio_command("inspect", "model.py", "--input", "1x3x20x20", "--json")
    assert json.loads(result.stdout)["sites"][0]["input_shape"] == [1, 3, 20, 20]
    result = fxbio_command("inspect", "model.py", "--input", "1x5x20x20")
    assert result.exit_code == 2
    assert "check the example input" in result.stderr


def test_an_unknown_input_is_asked_for(fxbio_command: Command, folder: Path) -> None:
    (folder / "plain.py").write_text("from torch import nn\nmodel = nn.Linear(3, 3)\n")
    result = fxbio_command("inspect", "plain.py")
    assert result.exit_code == 2
    assert "no example input is known for Linear" in result.stderr
    assert "--input 1x3x224x224" in result.stderr


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("missing.py", "there is no file"),
        ("torchvision:resnet19", "did you mean 'resnet18'"),
        ("broken.py", "broken.py:2:1"),
    ],
)
def test_a_model_that_cannot_be_built(
    fxbio_command: Command, folder: Path, reference: str, says: str
) -> None:
    (folder / "broken.py").write_text("x = 1\n1 / 0\n")
    result = fxbio_command("inspect", reference)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def site(name: str, sources: tuple[str, ...], parameters: int, *, attention: bool) -> Site:
    return Site(
        name=name,
        path=name,
        weight=sources[0],
        sources=sources,
        op="linear",
        shape=(2, 2),
        input_shape=(1, 2),
        output_shape=(1, 2),
        groups=1,
        parameters=parameters,
        call_index=0,
        calls=1,
        order=0,
        depth=0,
        type="Linear",
        owner=name,
        attention=attention,
        origin=None,
    )


def test_shared_weights_are_counted_once() -> None:
    sites = [
        site("a", ("a.weight",), 4, attention=False),
        site("a#1", ("a.weight",), 4, attention=True),
        site("b", ("b.weight",), 2000, attention=True),
    ]
    assert summary(sites) == "3 sites, 2 of them in attention, 2 weights, 2,004 parameters"


def test_what_cannot_be_seen_has_its_place_and_reason() -> None:
    table = unreachable_table(
        [Unreachable("rnn", "fused weights", ("rnn.weight_hh_l0",), Origin("model.py", 7))]
    )
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["rnn", "fused weights", "model.py:7", "rnn.weight_hh_l0"]
