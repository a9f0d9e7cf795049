"""Fitting a table of texts to a width: module paths break at dots, other cells at spaces."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

__all__ = ["Rows", "column_widths", "drop_columns", "fit_rows"]

Rows: TypeAlias = list[tuple[str, ...]]

_GAP = re.compile(r"[ .×_{]")
"""Characters before which a cell may be broken."""


def column_widths(columns: Sequence[str], rows: Rows) -> list[int]:
    """The longest cell of each column, header included."""
    return [max(map(len, column)) for column in zip(columns, *rows, strict=True)]


def drop_columns(
    columns: Sequence[str], rows: Rows, dropped: Collection[str]
) -> tuple[tuple[str, ...], Rows]:
    """The table without some of its columns."""
    kept = [i for i, column in enumerate(columns) if column not in dropped]
    return tuple(columns[i] for i in kept), [tuple(row[i] for i in kept) for row in rows]


def fit_rows(
    columns: Sequence[str],
    rows: Rows,
    width: int,
    narrowest: Mapping[str, int],
) -> Rows:
    """Break cells into lines so that the table is not wider than ``width``.

    Args:
        columns: headers.
        rows: cells, one line each.
        width: room for all cells together, padding not counted.
        narrowest: the columns that may be broken, in the order in which they give way, and how
            narrow each may become.

    Returns:
        The rows with line breaks in their cells.
    """
    widths = column_widths(columns, rows)
    for name, least in narrowest.items():
        excess = sum(widths) - width
        if excess > 0 and name in columns:
            place = columns.index(name)
            widths[place] = min(widths[place], max(least, widths[place] - excess))
    return [tuple(map(_break, row, widths)) for row in rows]


def _break(text: str, width: int) -> str:
    """Lines of at most ``width``; further lines are indented."""
    lines, indent = [], ""
    while len(indent + text) > width:
        room = width - len(indent)
        gaps = [gap.start() for gap in _GAP.finditer(text, 1, room + 1)]
        cut = gaps[-1] if gaps else room
        lines.append(indent + text[:cut])
        text, indent = text[cut:].lstrip(" "), "  "
    return "\n".join([*lines, indent + text])
