"""Files of JSON lines that a run goes on with after it was lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fxbio.train.output.folder import write_text

__all__ = ["keep_lines"]


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    """Take out the other lines, and the last one where it was torn.

    Args:
        path: of a file of JSON objects, one per line; it need not be there.
        wanted: whether a line stays.
    """
    if not path.exists():
        return
    lines = path.read_text().splitlines(keepends=True)
    write_text(path, "".join(line for line in lines if _is_wanted(line, wanted)))


def _is_wanted(line: str, wanted: Callable[[dict[str, Any]], bool]) -> bool:
    try:
        return line.endswith("\n") and wanted(json.loads(line))
    except ValueError:
        return False
