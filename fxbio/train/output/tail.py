"""Files of JSON lines that a run goes on with after it was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fxbio.errors import RecordError
from fxbio.files.reading import parse_json, require_regular_file
from fxbio.train.output.run_folder import write_text

__all__ = ["keep_lines", "read_lines"]


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Take out the other lines, and the last one where it was torn.

    Args:
        path: of a file of JSON objects, one per line; it need not be there.
        wanted: whether a line stays.

    Raises:
        RecordError: when something that is no file, or cannot be read, stands in its place.
    """
    if not path.exists():
        return
    lines = _text(path).splitlines(keepends=True)
    write_text(path, "".join(line for line in lines if _is_wanted(line, wanted)))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file that need not be there; damaged lines are passed over."""
    for line in _text(path).splitlines():
        found = _object(line)
        if found is not None:
            yield found


def _text(path: Path) -> str:
    try:
        return require_regular_file(path).read_text(errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise RecordError(f"'{path}' cannot be read: {error}") from error


def _is_wanted(line: str, wanted: Callable[[dict[str, Any]], bool]) -> bool:
    found = _object(line) if line.endswith("\n") else None
    return found is not None and wanted(found)


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = parse_json(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
