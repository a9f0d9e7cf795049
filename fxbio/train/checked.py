"""Checks that a section makes of its own values, and how it says which field is to blame."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Any, NoReturn

from fxbio.errors import ConfigError, did_you_mean
from fxbio.files.typed_yaml import FieldError

__all__ = [
    "above_zero",
    "fail",
    "known_choices",
    "not_negative",
    "shares",
    "within",
]


class SectionError(FieldError, ConfigError):
    """A value that a section of a recipe or a study refuses."""


def fail(name: str, fault: str, notes: Iterable[str] = ()) -> NoReturn:
    """Refuse the value of a field."""
    raise SectionError(name, fault, notes)


def above_zero(section: object, *names: str) -> None:
    """Refuse values of zero and below; ``None`` passes."""
    for name in names:
        value = getattr(section, name)
        if value is not None and value <= 0:
            fail(name, f"must be above 0, not {value}")


def not_negative(section: object, *names: str) -> None:
    """Refuse values below zero."""
    for name in names:
        if getattr(section, name) < 0:
            fail(name, f"must be at least 0, not {getattr(section, name)}")


def shares(section: object, *names: str) -> None:
    """Refuse values outside of 0 to 1."""
    within(section, 0, 1, *names)


def within(section: object, least: float, most: float, *names: str) -> None:
    """Refuse values outside of a range; of a list, each that it holds; ``None`` passes."""
    for name in names:
        value = getattr(section, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not least <= number <= most:
                fail(name, f"must be from {least:,} to {most:,}, not {number}")


def known_choices(section: Any) -> None:
    """Refuse words that a field does not know, in sections that are made in Python."""
    for name, hint in typing.get_type_hints(type(section)).items():
        allowed = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
        value = getattr(section, name)
        if allowed and value not in allowed:
            words = [str(choice) for choice in allowed]
            guess = did_you_mean(str(value), words)
            notes = [*([guess] if guess else []), f"it may be: {', '.join(words)}"]
            fail(name, f"cannot be '{value}'", notes)
