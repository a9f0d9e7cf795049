"""The exceptions of fxbio: one small tree, so that a caller can catch as much as they mean to.

Every message has a headline in plain words. Where it is known it also says where the trouble
is, what is allowed, and what to type next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

__all__ = [
    "CaptureError",
    "ConfigError",
    "DataError",
    "FxbioError",
    "FxbioWarning",
    "Location",
    "ModelError",
    "PassError",
    "PolicyError",
    "ProcessError",
    "RecordError",
    "RuleError",
    "Stopped",
    "TrainError",
    "UnreachableWeightError",
    "VerificationError",
    "did_you_mean",
    "is_out_of_memory",
]


E = TypeVar("E", bound="FxbioError")

_WIDEST = 1000
"""Characters of a line of a message: a value or a line of a file may be megabytes."""
_EXCERPT = 160


@dataclass(frozen=True)
class Location:
    """A place in a text file; ``line`` and ``column`` count from 1, ``text`` is the whole line."""

    file: str
    line: int
    column: int = 1
    text: str = ""
    length: int = 1
    """How many characters the caret underlines."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def excerpt(self) -> str:
        """The line with a caret below the place, the way compilers print it."""
        if not self.text:
            return f"  --> {self}"
        gutter = str(self.line)
        start = max(0, self.column - 1 - _EXCERPT // 2) if len(self.text) > _EXCERPT else 0
        shown = self.text[start : start + _EXCERPT]
        indent = self.column - 1 - start
        caret = " " * indent + "^" * max(1, min(self.length, _EXCERPT - indent))
        return f"  --> {self}\n{gutter} | {shown}\n{' ' * len(gutter)} | {caret}"


class FxbioError(Exception):
    """Base of all errors that a user can cause and mend.

    Args:
        headline: what happened, in one line.
        location: where, if a file is to blame.
        notes: facts that help to understand it, one line each.
        help: what to do or to type next.
    """

    def __init__(
        self,
        headline: str,
        *,
        location: Location | None = None,
        notes: Iterable[str] = (),
        help: str | None = None,
    ) -> None:
        self.headline = headline
        self.location = location
        self.notes = tuple(notes)
        self.help = help
        super().__init__(self.render())

    def recast(self, cls: type[E], location: Location | None) -> E:
        """The same error in another class, at a place in a file."""
        return cls(self.headline, location=location, notes=self.notes, help=self.help)

    def render(self) -> str:
        """The full message, several lines."""
        lines = [self.headline]
        if self.location is not None:
            lines.append(self.location.excerpt())
        lines += [f"  = note: {note}" for note in self.notes]
        if self.help:
            lines.append(f"  = help: {self.help}")
        return "\n".join(_printable(line) for line in lines)


def _printable(text: str) -> str:
    """Shortened where it is very long; surrogates, which no stream can encode, are escaped."""
    if len(text) > _WIDEST:
        text = f"{text[: _WIDEST // 2]} … {text[-_WIDEST // 2 :]}"
    return text.encode("utf-8", "backslashreplace").decode()


class FxbioWarning(UserWarning):
    """Something that runs, but hardly as it was meant."""


class ModelError(FxbioError):
    """The model (or the reference to it, or its example input) cannot be used as given."""


class CaptureError(FxbioError):
    """The model's forward could not be recorded."""


class RuleError(FxbioError):
    """An unknown rule, an unknown option, or an option out of range.

    Args:
        headline: and what else an ``FxbioError`` has.
        option: name of the option that is to blame, if it is one.
    """

    def __init__(
        self,
        headline: str,
        *,
        option: str | None = None,
        location: Location | None = None,
        notes: Iterable[str] = (),
        help: str | None = None,
    ) -> None:
        super().__init__(headline, location=location, notes=notes, help=help)
        self.option = option


class PolicyError(FxbioError):
    """The policy is malformed, or does not fit the model."""


class UnreachableWeightError(FxbioError):
    """A weight is used where no rule can be installed."""


class PassError(FxbioError):
    """A pass failed; the cause is chained."""


class RecordError(FxbioError):
    """A saved transformation does not belong to this model, or is damaged."""


class DataError(FxbioError):
    """A data set is missing, broken, or does not fit the task."""


class VerificationError(FxbioError):
    """A transformed model does not do what its plan says."""


class ConfigError(FxbioError):
    """A recipe of a training run is malformed, or cannot be carried out as it stands."""


class TrainError(FxbioError):
    """A training run failed on its way."""


class ProcessError(TrainError):
    """It failed in one process, and the others cannot know why."""


class Stopped(TrainError):
    """It was stopped by a signal, and can go on.

    Args:
        exit: what the process returns: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, headline: str, *, exit: int, help: str) -> None:
        super().__init__(headline, help=help)
        self.exit = exit


def is_out_of_memory(error: BaseException) -> bool:
    """True if memory ran out, on a device too: torch has no class of its own for that on a CPU."""
    if isinstance(error, MemoryError):
        return True
    signs = ("can't allocate memory", "Cannot allocate memory", "out of memory")
    return isinstance(error, RuntimeError | OSError) and any(sign in str(error) for sign in signs)


def did_you_mean(word: str, known: Iterable[str], limit: int = 3) -> str:
    """``"did you mean 'a' or 'B'?"``, or an empty string when nothing is close but for case."""
    spelling = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), spelling, n=limit, cutoff=0.6)
    if not close:
        return ""
    return "did you mean " + " or ".join(f"'{spelling[c]}'" for c in close) + "?"
