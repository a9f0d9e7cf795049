from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result

Command = Callable[..., Result]


@pytest.mark.parametrize("ending", ["svg", "html", "dot"])
def test_the_picture_is_written(fxbio_command: Command, folder: Path, ending: str) -> None:
    result = fxbio_command("graph", "model.py", "-p", "ss.yaml", "-o", f"net.{ending}")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith(f"net.{ending}: 3 boxes")
    text = (folder / f"net.{ending}").read_text()
    assert "sign W" in text
    assert "backbone.0" in text


def test_without_a_policy(fxbio_command: Command, folder: Path) -> None:
    result = fxbio_command("graph", "model.py", "-o", "net.svg", "--level", "site")
    assert result.exit_code == 0, result.stderr
    ElementTree.parse(folder / "net.svg")
    assert "backprop everywhere" in (folder / "net.svg").read_text()


def test_a_folder_gives_the_picture_of_its_model(fxbio_command: Command, folder: Path) -> None:
    assert fxbio_command("transform", "model.py", "-p", "ss.yaml", "-o", "net").exit_code == 0
    assert fxbio_command("graph", "model.py", "-p", "ss.yaml", "-o", "model.dot").exit_code == 0
    result = fxbio_command("graph", "net", "-o", "folder.dot")
    assert result.exit_code == 0, result.stderr
    assert (folder / "folder.dot").read_text() == (folder / "model.dot").read_text()


def test_a_wrong_ending_is_told_before_the_model_is_built(
    fxbio_command: Command, folder: Path
) -> None:
    result = fxbio_command("graph", "no-such-model.py", "-o", "net.jpg")
    assert result.exit_code == 2
    assert "'.jpg' is no format" in result.stderr
    assert "rsvg-convert" not in result.stderr  # it makes no JPEG


@pytest.mark.parametrize("ending", ["png", "pdf"])
def test_pixels_and_pages_are_made_of_the_svg(
    fxbio_command: Command, folder: Path, ending: str
) -> None:
    result = fxbio_command("graph", "no-such-model.py", "-o", f"my net.{ending}")
    assert result.exit_code == 2
    assert f"'.{ending}' is no format" in result.stderr
    assert "endings: .svg, .html, .dot" in result.stderr
    assert f"rsvg-convert -f {ending} -o 'my net.{ending}' 'my net.svg'" in result.stderr
    assert not list(folder.glob("my net*"))
