"""Folders that must be there, and how lists of names are shortened in messages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fxbio.errors import DataError, did_you_mean

__all__ = ["existing_folder", "some", "subfolders"]


def existing_folder(folder: Path | None, layout: str = "") -> Path:
    """The folder, if there is one.

    Args:
        folder: what was given.
        layout: a note on what the folder is part of.

    Raises:
        DataError: when nothing is given or nothing is there.
    """
    if folder is None:
        raise DataError("the data set has no path", help="say where it is: data.path=FOLDER")
    if folder.is_dir():
        return folder
    if folder.exists():
        raise DataError(f"{folder} is not a folder", notes=[layout] if layout else [])
    siblings = subfolders(folder.parent) if folder.parent.is_dir() else []
    guess = did_you_mean(folder.name, siblings)
    beside = [f"beside it there is: {some(siblings)}"] if siblings and not guess else []
    notes = [layout, guess, *beside]
    raise DataError(f"there is no folder {folder}", notes=[note for note in notes if note])


def subfolders(folder: Path) -> list[str]:
    """Names of the visible folders inside, sorted."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")


def some(names: Iterable[object], limit: int = 5) -> str:
    """The first few of many names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(str(name) for name in names[:limit]) + more
