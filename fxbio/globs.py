"""Patterns on module paths: segment-aware globs and regular expressions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fxbio.errors import Location, did_you_mean

__all__ = ["Pattern", "glob_fault", "glob_matches", "regex_fault", "suggest_paths"]

_LONGEST_REGEX = 500
_MOST_CHOICES = 25
_CHOICES_OF_A_REPEAT = 5
_REPEAT = re.compile(r"[*+]|\{[0-9]*,?[0-9]*\}")
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?|\{[0-9]*,?[0-9]*\}|.", re.DOTALL)


@dataclass(frozen=True)
class Pattern:
    """Glob or regular expression for module paths, and where it was written."""

    text: str
    kind: Literal["glob", "regex"] = "glob"
    location: Location | None = field(default=None, compare=False)

    def matches(self, path: str) -> bool:
        """True if the whole path matches."""
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
    segments = path.split(".") if path else []
    return _wildcard_matches(glob.split("."), segments, "**", _segment_matches)


def glob_fault(glob: str) -> str | None:
    """Syntax error of a glob, or ``None``."""
    if "::" in glob:
        return "'::' belongs to the short form, where: \"glob::op\""
    segments = glob.split(".")
    if not all(segments):
        return "it has an empty segment between its dots"
    if any("**" in segment and segment != "**" for segment in segments):
        return "'**' must stand alone between dots, as in 'backbone.**'"
    return None


def _segment_matches(pattern: str, segment: str) -> bool:
    return _wildcard_matches(pattern, segment, "*", str.__eq__)


def _wildcard_matches(
    pattern: Sequence[str], items: Sequence[str], star: str, same: Callable[[str, str], bool]
) -> bool:
    """Match items one by one, where a star is any number of them.

    It takes at most ``len(pattern) * len(items)`` steps: where the rest does not fit, only the
    last star takes one item more. A regular expression would try every star.
    """
    at = begin = 0
    last_star: int | None = None
    position = 0
    while position < len(items):
        if at < len(pattern) and pattern[at] == star:
            last_star, begin = at, position
            at += 1
        elif at < len(pattern) and same(pattern[at], items[position]):
            at, position = at + 1, position + 1
        elif last_star is not None:
            begin += 1
            at, position = last_star + 1, begin
        else:
            return False
    return all(item == star for item in pattern[at:])


def regex_fault(text: str) -> str | None:
    """Syntax error of a regular expression, or ``None``.

    A repeat of something that repeats or branches is refused: backtracking may try exponentially
    many ways to share a path out among the two. So are more than five repeats beside each other,
    or options and branches in their place.
    """
    if len(text) > _LONGEST_REGEX:
        return f"it has more than {_LONGEST_REGEX} characters"
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    except FutureWarning as error:
        return f"it is ambiguous: {error}"
    if _is_nested(text):
        return "a repeat of what repeats or branches may take forever"
    if _choices(text) > _MOST_CHOICES:
        return "so many repeats, options and branches may take forever"
    return None


def _choices(regex: str) -> int:
    """Binary logarithm, roughly, of the ways to try: a repeat may end anywhere."""
    count, branches = 0, [0]
    for token in _TOKEN.findall(regex):
        if _REPEAT.fullmatch(token):
            count += _CHOICES_OF_A_REPEAT
        elif token == "?":
            count += 1
        elif token == "|":
            branches[-1] += 1
        elif token in ("(", "(?"):
            branches.append(0)
        elif token == ")" and len(branches) > 1:
            count += branches.pop().bit_length()
    return count + branches[0].bit_length()


def _is_nested(regex: str) -> bool:
    """True if a group with a repeat or a branch in it is repeated."""
    varies, just_closed = [False], False
    for token in _TOKEN.findall(regex):
        if _REPEAT.fullmatch(token):
            if just_closed:
                return True
            varies[-1] = True
        elif token == "|":
            varies[-1] = True
        elif token in ("(", "(?"):
            varies.append(False)
        elif token == ")" and len(varies) > 1:
            just_closed = varies.pop()
            varies[-1] |= just_closed
            continue
        just_closed = False
    return False


def suggest_paths(glob: str, paths: Iterable[str]) -> list[str]:
    """Module names at the place where a glob leads nowhere, as notes for an error.

    Args:
        glob: a glob that matches none of ``paths``.
        paths: module paths of the sites, in the order in which they should be offered.
    """
    modules = list(dict.fromkeys(prefix for path in paths for prefix in _prefixes(path)))
    if any(glob_matches(glob, module) for module in modules):
        return [f"'{glob}' holds sites below it, not in itself: write '{glob}.**'"]
    segments = glob.split(".")
    for kept in reversed(range(_reachable(segments, modules))):
        parent = ".".join(segments[:kept])
        names = _names_below(parent, modules)
        if names:
            guess = did_you_mean(segments[kept], names)
            place = f"below '{parent}'" if parent else "at the top of the model"
            return [*([guess] if guess else []), f"{place} there is: {_shortened(names)}"]
    return []


def _reachable(segments: list[str], modules: list[str]) -> int:
    """Number of leading segments that are worth a look: no path is longer than the deepest one."""
    deepest = max((module.count(".") + 1 for module in modules), default=0)
    named = 0
    for position, segment in enumerate(segments):
        named += segment != "**"
        if named > deepest + 1 or (segment == "**" and segments[position - 1 : position] == ["**"]):
            return position
    return len(segments)


def _prefixes(path: str) -> list[str]:
    segments = path.split(".")
    return [".".join(segments[: end + 1]) for end in range(len(segments))]


def _names_below(parent: str, modules: list[str]) -> list[str]:
    below = f"{parent}.*" if parent else "*"
    return list(dict.fromkeys(m.rpartition(".")[2] for m in modules if glob_matches(below, m)))


def _shortened(names: list[str], limit: int = 12) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
