"""Pictures as files; the ending of the name says the format."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fxbio.errors import ConfigError, did_you_mean
from fxbio.files.reading import require_regular_file
from fxbio.viz.dot import dot
from fxbio.viz.html import html
from fxbio.viz.mermaid import mermaid
from fxbio.viz.picture import Picture
from fxbio.viz.png import converter, png
from fxbio.viz.svg import svg

__all__ = ["FORMATS", "check_format", "save"]

FORMATS: dict[str, Callable[[Picture], str | bytes]] = {
    ".svg": svg,
    ".html": html,
    ".dot": dot,
    ".mmd": mermaid,
    ".png": png,
}
"""What writes each format, by the ending of the file's name."""


def save(picture: Picture, path: str | Path) -> None:
    """Write a picture to a file.

    Args:
        picture: what ``draw`` gave.
        path: its name ends in ``.svg``, ``.html``, ``.dot``, ``.mmd`` or ``.png``.

    Raises:
        ConfigError: for any other ending, a folder that is not there, or a PNG without CairoSVG.
    """
    path = Path(path)
    check_format(path)
    content = FORMATS[path.suffix.lower()](picture)
    data = content if isinstance(content, bytes) else content.encode()
    try:
        _write(data, Path(os.path.realpath(path)))
    except OSError as error:
        raise ConfigError(
            f"the picture cannot be written to '{path}': {error.strerror or error}",
            help="name a file in a folder that exists and can be written",
        ) from error


def _write(data: bytes, path: Path) -> None:
    """Whole or not at all, and never into a pipe, where it might wait for ever."""
    if path.exists() or path.is_symlink():  # a link is left of a loop of links alone
        require_regular_file(path)
    scratch = path.with_name(f".{path.name}.part")
    try:
        scratch.write_bytes(data)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def check_format(path: Path) -> None:
    """Raise ``ConfigError`` unless a file of this name could be written, before work is done."""
    ending = path.suffix.lower()
    if ending == ".png":
        converter()
    if ending in FORMATS:
        return
    guess = did_you_mean(ending, FORMATS)
    raise ConfigError(
        f"no picture is written to '{path.name}': "
        + (f"'{ending}' is no format" if ending else "its name has no ending"),
        notes=[*([guess] if guess else []), f"endings: {', '.join(FORMATS)}"],
        help=f"for instance: -o {path.stem or 'model'}.svg",
    )
