"""Patterns on module paths: segment-aware globs and regular expressions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from fxbio.errors import Location, did_you_mean

__all__ = ["Pattern", "glob_fault", "glob_matches", "suggest_paths"]


@dataclass(frozen=True)
class Pattern:
    """What is matched against module paths, and where it was written."""

    text: str
    kind: Literal["glob", "regex"] = "glob"
    location: Location | None = field(default=None, compare=False)

    def matches(self, path: str) -> bool:
        """Whether the whole path matches."""
        if self.kind == "regex":
            return re.fullmatch(self.text, path) is not None
        return glob_matches(self.text, path)

    def __str__(self) -> str:
        return self.text


def glob_matches(glob: str, path: str) -> bool:
    """Match a dotted path: ``*`` stays within one segment, ``**`` is any number of segments.

    >>> glob_matches("backbone.**", "backbone"), glob_matches("backbone.*", "backbone.a.b")
    (True, False)
    """
    return _compiled(glob).fullmatch(_terminated(path)) is not None


def glob_fault(glob: str) -> str | None:
    """What is wrong with a glob, or ``None``."""
    if "::" in glob:
        return "'::' belongs to the short form, where: \"glob::op\""
    segments = glob.split(".")
    if not all(segments):
        return "it has an empty segment between its dots"
    if any("**" in segment and segment != "**" for segment in segments):
        return "'**' must stand alone between dots, as in 'backbone.**'"
    return None


def _terminated(path: str) -> str:
    """Every segment is followed by a dot, so that zero segments are the empty string."""
    return f"{path}." if path else ""


@lru_cache(maxsize=1024)
def _compiled(glob: str) -> re.Pattern[str]:
    parts = []
    for segment in glob.split("."):
        if segment == "**":
            parts.append(r"(?:[^.]+\.)*")
        else:
            parts.append(r"[^.]*".join(map(re.escape, segment.split("*"))) + r"\.")
    return re.compile("".join(parts))


def suggest_paths(glob: str, paths: Iterable[str]) -> list[str]:
    """What the model has in the place where a glob leads nowhere, as notes for an error.

    Args:
        glob: a glob that matches none of ``paths``.
        paths: module paths of the sites, in the order in which they should be offered.
    """
    modules = list(dict.fromkeys(prefix for path in paths for prefix in _prefixes(path)))
    if any(glob_matches(glob, module) for module in modules):
        return [f"'{glob}' holds sites below it, not in itself: write '{glob}.**'"]
    segments = glob.split(".")
    for kept in reversed(range(len(segments))):
        parent = ".".join(segments[:kept])
        names = _names_below(parent, modules)
        if names:
            guess = did_you_mean(segments[kept], names)
            place = f"below '{parent}'" if parent else "at the top of the model"
            return [*([guess] if guess else []), f"{place} there is: {_shortened(names)}"]
    return []


def _prefixes(path: str) -> list[str]:
    segments = path.split(".")
    return [".".join(segments[: end + 1]) for end in range(len(segments))]


def _names_below(parent: str, modules: list[str]) -> list[str]:
    below = f"{parent}.*" if parent else "*"
    return list(dict.fromkeys(m.rpartition(".")[2] for m in modules if glob_matches(below, m)))


def _shortened(names: list[str], limit: int = 12) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
