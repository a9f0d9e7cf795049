"""Rich renderables as plain text."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

__all__ = ["plain_text"]


def plain_text(renderable: RenderableType, width: int = 120) -> str:
    """What a renderable looks like without colour; no trailing blanks."""
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, legacy_windows=False).print(renderable)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
