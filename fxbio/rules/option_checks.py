"""Checks of the options of rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

from fxbio.errors import RuleError, did_you_mean
from fxbio.files.fields import fits, options_of

R = TypeVar("R")

_SIZES = (1e-30, 1e30)
"""Of entries that float32 holds, and with them sums of a great many."""

__all__ = [
    "check_coefficients",
    "check_momentum",
    "check_positive",
    "check_share",
    "check_size",
    "check_whole",
    "check_word",
    "instantiate",
    "names",
]


def instantiate(cls: type[R], options: Mapping[str, Any]) -> R:
    """A rule of a class, with the names and the types of its options checked.

    Raises:
        RuleError: as for ``make_rule``.
    """
    _check_names(cls, options)
    try:
        made = cls(**options)
    except TypeError:  # a rule of the user's that calculates with what it was given
        _check_types(cls, options)
        raise
    _check_types(cls, options)
    return made


def check_coefficients(**values: object) -> None:
    """Raise ``RuleError`` unless all values are finite numbers ≥ 0."""
    for name, value in values.items():
        if not _is_number(value) or not math.isfinite(value) or value < 0:
            raise RuleError(f"{name} must be a number ≥ 0, not {value!r}", option=name)


def check_momentum(name: str, value: object) -> None:
    """Raise ``RuleError`` unless the value is in [0, 1)."""
    if not _is_number(value) or not 0 <= value < 1:
        raise RuleError(f"{name} must be at least 0 and below 1, not {value!r}", option=name)


def check_size(name: str, value: object) -> None:
    """Raise ``RuleError`` unless entries of feedback can have this size in float32."""
    check_positive(name, value)
    if not isinstance(value, int | float) or not _SIZES[0] <= value <= _SIZES[1]:
        least, most = _SIZES
        raise RuleError(
            f"{name} must be between {least:g} and {most:g}, not {value!r}", option=name
        )


def check_positive(name: str, value: object) -> None:
    """Raise ``RuleError`` unless the value is a finite number above 0."""
    if not _is_number(value) or not math.isfinite(value) or value <= 0:
        raise RuleError(f"{name} must be a positive number, not {value!r}", option=name)


def check_share(name: str, value: object) -> None:
    """Raise ``RuleError`` unless the value is in (0, 1]."""
    if not _is_number(value) or not 0 < value <= 1:
        raise RuleError(f"{name} must be a share above 0 and at most 1, not {value!r}", option=name)


def check_whole(name: str, value: object, *, least: int = 1) -> None:
    """Raise ``RuleError`` unless the value is a whole number that is large enough."""
    if type(value) is not int or value < least:
        raise RuleError(f"{name} must be a whole number ≥ {least}, not {value!r}", option=name)


def check_word(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise ``RuleError`` unless the value is one of some words."""
    if value not in allowed:
        guess = did_you_mean(str(value), allowed)
        raise RuleError(
            f"unknown {name} '{value}'",
            option=name,
            notes=[*([guess] if guess else []), f"allowed: {', '.join(allowed)}"],
        )


def names(option: str, value: object) -> tuple[str, ...]:
    """A string or a list of strings as a tuple.

    Raises:
        RuleError: for anything else.
    """
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(v, str) for v in listed):
        raise RuleError(
            f"{option} must be a string or a list of strings, not {value!r}", option=option
        )
    return tuple(listed)


def _check_names(cls: type[Any], options: Mapping[str, Any]) -> None:
    known = {option.name: option for option in options_of(cls)}
    unknown = [key for key in options if key not in known]
    if unknown:
        guess = did_you_mean(unknown[0], known)
        allowed = f"its options: {', '.join(known)}" if known else "it has no options"
        raise RuleError(
            f"{cls.kind} '{cls.name}' has no option '{unknown[0]}'",
            option=unknown[0],
            notes=[*([guess] if guess else []), allowed],
            help=f"see: fxbio {cls.listed} {cls.name}",
        )
    missing = [key for key, option in known.items() if option.required and key not in options]
    if missing:
        raise RuleError(
            f"{cls.kind} '{cls.name}' needs the option '{missing[0]}'",
            help=f"see: fxbio {cls.listed} {cls.name}",
        )


def _check_types(cls: type[Any], options: Mapping[str, Any]) -> None:
    """For rules that do not check the types of their options themselves."""
    for option in options_of(cls):
        if option.name in options and not fits(options[option.name], option.hint):
            raise RuleError(
                f"option '{option.name}' of {cls.kind} '{cls.name}' cannot be "
                f"{options[option.name]!r}",
                option=option.name,
                notes=[option.description] if option.description else [],
                help=f"see: fxbio {cls.listed} {cls.name}",
            )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
