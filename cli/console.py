"""Consoles: results to stdout, everything else to stderr."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["log", "print_json", "print_result"]

_PIPE_WIDTH = 10_000
"""Wide enough that a pipe gets every row on one line: what is cut cannot be searched for."""


def print_result(renderable: RenderableType) -> None:
    """A result on stdout: coloured tables on a terminal, plain lines in a pipe."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(renderable, markup=False)
        return
    stream = io.StringIO()
    plain = Console(file=stream, width=_PIPE_WIDTH, color_system=None, highlight=False)
    plain.print(renderable, markup=False)
    for line in stream.getvalue().splitlines():
        click.echo(_printable(line.rstrip()))


def print_json(value: object) -> None:
    """A result on stdout, for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def log(message: str) -> None:
    """A line about progress, on stderr."""
    click.echo(_printable(message), err=True)


def _printable(text: str) -> str:
    """Names of files may hold bytes that are no text, which no stream can encode."""
    return text.encode("utf-8", "backslashreplace").decode()
