"""Rich renderables as plain text; tables as HTML for notebooks, and as data frames with pandas."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from rich.console import Console, RenderableType

from fxbio.errors import ConfigError

__all__ = ["data_frame", "html_table", "plain_text"]

_SHOWN = 200
"""Rows of a table in a notebook; a page with thousands of them is no help."""


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A heading and a table as HTML, which notebooks show in place of ``repr``."""
    every = [[escape(str(cell)) for cell in row] for row in rows]
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in every[:_SHOWN])
    more = f"<p>and {len(every) - _SHOWN:,} more rows</p>" if len(every) > _SHOWN else ""
    return (
        f"<p><b>{escape(title)}</b></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
    )


def data_frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """The rows as a ``pandas.DataFrame``.

    Raises:
        ConfigError: when pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise ConfigError(
            "a data frame needs pandas, which cannot be imported",
            notes=[str(error)],
            help="install it: pip install pandas",
        ) from error
    return pandas.DataFrame(list(rows))


def plain_text(renderable: RenderableType, width: int = 120) -> str:
    """Text of a renderable without colour and without trailing blanks."""
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, legacy_windows=False).print(renderable)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
