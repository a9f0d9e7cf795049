"""Files that anybody may have written or put there: regular ones only, JSON of bounded depth."""

from __future__ import annotations

import errno
import gc
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from fxbio.errors import FxbioError, did_you_mean

__all__ = [
    "open_to_append",
    "parse_json",
    "read_bytes",
    "read_document",
    "read_json",
    "read_text",
    "require_regular_file",
]

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def require_regular_file(path: str | Path) -> Path:
    """The path, if a regular file is there: opening a pipe waits, and a device may never end.

    Raises:
        OSError: when there is none, it is something else, or the path cannot be one.
    """
    try:
        mode = Path(path).stat().st_mode
    except ValueError as error:  # a NUL, or a surrogate that the file system cannot encode
        raise OSError(f"{str(path)!r} cannot be the name of a file: {error}") from error
    if not stat.S_ISREG(mode):
        raise OSError(f"it is {_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")
    return Path(path)


def read_bytes(path: str | Path) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as for ``require_regular_file``, or when it cannot be read.
    """
    return require_regular_file(path).read_bytes()


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """The text of a regular file.

    Raises:
        OSError: as for ``read_bytes``.
        UnicodeDecodeError: when it is not text in this encoding.
    """
    return require_regular_file(path).read_text(encoding=encoding)


def open_to_append(path: str | Path) -> TextIO:
    """A text file to add lines to, each written at once; it is made where nothing is.

    Raises:
        OSError: as for ``require_regular_file``, with the path, or when it cannot be written.
    """
    if os.path.lexists(path):
        try:
            require_regular_file(path)
        except OSError as error:
            raise OSError(errno.EINVAL, error.strerror or str(error), str(path)) from error
    return Path(path).open("a", buffering=1, encoding="utf-8")


def read_document(path: Path, kind: str, error: type[FxbioError], help: str | None = None) -> str:
    """The text of a file in YAML.

    Args:
        path: of the file.
        kind: what it is, for messages.
        error: class of the errors.
        help: what to do where there is none.

    Raises:
        FxbioError: of that class, when there is none, with close names, or it cannot be read.
    """
    try:
        # utf-8-sig: a byte-order mark would shift the columns of the first line.
        return read_text(path, encoding="utf-8-sig")
    except FileNotFoundError as cause:
        nearby = [*path.parent.glob("*.yaml"), *path.parent.glob("*.yml")]
        guess = did_you_mean(path.name, [file.name for file in nearby])
        notes = [guess] if guess else []
        raise error(f"there is no {kind} '{path}'", notes=notes, help=help) from cause
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"the {kind} '{path}' cannot be read: {cause}") from cause


def read_json(path: str | Path) -> Any:
    """The value in a regular file of JSON.

    Raises:
        OSError: as for ``read_bytes``.
        ValueError: when it is not JSON.
    """
    return parse_json(read_bytes(path))


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: when it is not JSON, or nested so deeply that it cannot be read.
    """
    try:
        with _without_collections():
            return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@contextmanager
def _without_collections() -> Iterator[None]:
    """Inside, nothing looks for garbage: no value is any yet, and it takes most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
