"""Paths and references in a file, which are relative to the file they are written in."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["anchored", "anchored_path"]


def anchored(reference: str, folder: Path) -> str:
    """A reference such as ``file.py:name`` without what depends on the working directory.

    Args:
        reference: anything; what names no Python file is given back as it is.
        folder: that the file's path is relative to.
    """
    path, colon, name = reference.partition(":")
    if not path.endswith(".py"):
        return reference
    return f"{anchored_path(path, folder)}{colon}{name}"


def anchored_path(path: str, folder: Path) -> Path:
    """A path without what depends on the working directory; ``~`` is the user's home."""
    return Path(os.path.normpath(folder.absolute() / os.path.expanduser(path)))
