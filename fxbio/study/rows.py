"""``results.jsonl``: one line for each cell and seed, however its run ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fxbio.errors import RecordError
from fxbio.files.reading import open_to_append, parse_json, read_text
from fxbio.files.typed_json import from_json
from fxbio.train.output.run_folder import write_text
from fxbio.train.output.status import State

__all__ = ["Row", "append_row", "read_rows", "repair_rows"]


@dataclass(frozen=True)
class Row:
    """Result of one run."""

    run: str
    """Of which cell, as in ``Cell.run``."""
    seed: int
    state: State
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the last evaluation."""
    step: int = 0
    angle: float | None = None
    """Degrees between W and B at the end, as ``feedback_angle`` measures them."""
    seconds: float = 0.0
    error: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Cell and seed of the run."""
        return self.run, self.seed


def read_rows(path: Path) -> tuple[dict[tuple[str, int], Row], int]:
    """The rows by run and seed, the last of each; and how many lines cannot be read."""
    rows: dict[tuple[str, int], Row] = {}
    broken = 0
    for line in _lines(path):
        row = _parsed(line)
        if row is None:
            broken += 1
        else:
            rows[row.key] = row
    return rows, broken


def repair_rows(path: Path, tell: Callable[[str], None]) -> dict[tuple[str, int], Row]:
    """The same, and without the lines of a writer that was killed."""
    rows, broken = read_rows(path)
    if broken:
        write_text(path, "".join(_line(row) for row in rows.values()))
        tell(f"note: {broken} damaged line(s) removed from {path.name}; its runs are looked at")
    return rows


def append_row(path: Path, row: Row) -> None:
    """Add a line at once."""
    with open_to_append(path) as stream:
        stream.write(_line(row))


def _line(row: Row) -> str:
    return json.dumps(asdict(row), ensure_ascii=False) + "\n"


def _lines(path: Path) -> Iterable[str]:
    try:
        return read_text(path).splitlines()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"'{path}' cannot be read: {error}") from error


def _parsed(line: str) -> Row | None:
    try:
        return from_json(parse_json(line), Row)
    except ValueError:
        return None
