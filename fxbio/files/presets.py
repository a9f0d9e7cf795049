"""Policies and recipes that come with fxbio, by their names: ``xiao-resnet``, ``digits``."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path
from typing import Literal

__all__ = ["Kind", "copy_project", "preset_paths", "preset_title", "resolve_preset"]

Kind = Literal["policies", "recipes"]

_FOLDER = Path(__file__).parent.parent / "presets"


def preset_paths(kind: Kind) -> dict[str, Path]:
    """The file of each name, in alphabetical order."""
    files = {path.stem: path for path in (_FOLDER / kind).glob("*.yaml")}
    return dict(sorted(files.items()))


def preset_title(path: Path) -> str:
    """The first sentence of a preset's leading comment."""
    lines = takewhile(lambda line: line.strip("# \n"), path.read_text("utf-8").splitlines())
    comment = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    return re.split(r"(?<=\.)\s+(?=[A-Z])", comment)[0].rstrip(":.")


def resolve_preset(kind: Kind, path: str | Path) -> Path:
    """The file of a preset where its bare name was given; any other path as it is.

    A file of one's own goes first, so that a new preset never changes what a path means.
    """
    given = Path(path)
    if given.exists() or str(path) != given.name:
        return given
    return preset_paths(kind).get(given.name, given)


def copy_project(folder: Path) -> list[Path]:
    """Write the files of a first project to a folder.

    Raises:
        OSError: when they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(p for p in (_FOLDER / "project").iterdir() if p.suffix in (".py", ".yaml"))
    for file in files:
        (folder / file.name).write_bytes(file.read_bytes())
    return [folder / file.name for file in files]
