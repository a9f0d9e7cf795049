from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result

Command = Callable[..., Result]


@pytest.mark.parametrize("ending", ["svg", "html", "dot", "mmd"])
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
    assert fxbio_command("graph", "model.py", "-p", "ss.yaml", "-o", "model.mmd").exit_code == 0
    result = fxbio_command("graph", "net", "-o", "folder.mmd")
    assert result.exit_code == 0, result.stderr
    assert (folder / "folder.mmd").read_text() == (folder / "model.mmd").read_text()


def test_a_wrong_ending_is_told_before_the_model_is_built(
    fxbio_command: Command, folder: Path
) -> None:
    result = fxbio_command("graph", "no-such-model.py", "-o", "net.jpg")
    assert result.exit_code == 2
    assert "'.jpg' is no format" in result.stderr
