"""Texts that have to fit."""

from __future__ import annotations

__all__ = ["shortened", "shortened_path"]


def shortened(text: str, room: int) -> str:
    """A text of at most so many characters, without its end where it is longer."""
    return text if len(text) <= room else f"{text[: room - 1]}…"


def shortened_path(path: str, room: int) -> str:
    """A path of at most so many characters: the last segments tell the most."""
    if len(path) <= room:
        return path
    rest = path[len(path) - room + 1 :]
    head, dot, tail = rest.partition(".")
    return f"…{tail if dot and len(head) < room // 3 else rest}"
