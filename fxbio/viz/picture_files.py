"""Pictures as files; the ending of the name says the format."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from fxbio.errors import ConfigError, did_you_mean
from fxbio.files.atomic_file import write_whole
from fxbio.files.reading import require_regular_file
from fxbio.viz.dot import dot
from fxbio.viz.html import html
from fxbio.viz.picture import Picture
from fxbio.viz.svg import svg

__all__ = ["FORMATS", "check_format", "save"]

FORMATS: dict[str, Callable[[Picture], str]] = {
    ".svg": svg,
    ".html": html,
    ".dot": dot,
}
"""What writes each format, by the ending of the file's name."""

_CONVERTED = (".png", ".pdf", ".ps", ".eps")
"""What rsvg-convert makes of an SVG."""


def save(picture: Picture, path: str | Path) -> None:
    """Write a picture to a file.

    Args:
        picture: what ``draw`` gave.
        path: its name ends in ``.svg``, ``.html`` or ``.dot``.

    Raises:
        ConfigError: for any other ending, or a folder that is not there.
    """
    path = Path(path)
    check_format(path)
    content = FORMATS[path.suffix.lower()](picture)
    target = Path(os.path.realpath(path))  # a link stays, and what it leads to is written
    try:
        if target.exists() or target.is_symlink():  # a link is left of a loop of links alone
            require_regular_file(target)
        write_whole(target, content)
    except OSError as error:
        raise ConfigError(
            f"the picture cannot be written to '{path}': {error.strerror or error}",
            help="name a file in a folder that exists and can be written",
        ) from error


def check_format(path: Path) -> None:
    """Raise ``ConfigError`` unless a file of this name could be written, before work is done."""
    ending = path.suffix.lower()
    if ending in FORMATS:
        return
    name = path.stem or "model"
    guess = did_you_mean(ending, FORMATS)
    raise ConfigError(
        f"no picture is written to '{path.name}': "
        + (f"'{ending}' is no format" if ending else "its name has no ending"),
        notes=[*([guess] if guess else []), f"endings: {', '.join(FORMATS)}"],
        help=f"for instance: -o {name}.svg" + _conversion(name, ending),
    )


def _conversion(name: str, ending: str) -> str:
    """Conversion of an SVG into the formats of journals and slides."""
    if ending not in _CONVERTED:
        return ""
    target = f"{name}{ending}"
    return (
        f"; a browser prints or saves it, and rsvg-convert makes {ending} of it: "
        f"rsvg-convert -f {ending[1:]} -o {shlex.quote(target)} {shlex.quote(name + '.svg')}"
    )
