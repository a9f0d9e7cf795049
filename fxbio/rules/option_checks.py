"""Checks of the options of rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

from fxbio.errors import RuleError, did_you_mean

__all__ = ["check_coefficients", "check_share", "check_whole", "check_word"]


def check_coefficients(**values: object) -> None:
    """Raise ``RuleError`` unless all values are finite numbers ≥ 0."""
    for name, value in values.items():
        if not _is_number(value) or not math.isfinite(value) or value < 0:
            raise RuleError(f"{name} must be a number ≥ 0, not {value!r}")


def check_share(name: str, value: object) -> None:
    """Raise ``RuleError`` unless the value is in (0, 1]."""
    if not _is_number(value) or not 0 < value <= 1:
        raise RuleError(f"{name} must be a share above 0 and at most 1, not {value!r}")


def check_whole(name: str, value: object) -> None:
    """Raise ``RuleError`` unless the value is a whole number ≥ 1."""
    if type(value) is not int or value < 1:
        raise RuleError(f"{name} must be a whole number ≥ 1, not {value!r}")


def check_word(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raise ``RuleError`` unless the value is one of some words."""
    if value not in allowed:
        guess = did_you_mean(str(value), allowed)
        raise RuleError(
            f"unknown {name} '{value}'",
            notes=[*([guess] if guess else []), f"allowed: {', '.join(allowed)}"],
        )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
