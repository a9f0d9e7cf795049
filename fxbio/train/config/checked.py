"""Checks that a section makes of its own values, and how it says which field is to blame."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["NEAR_RECIPE", "FieldError", "above_zero", "fail", "not_negative"]

NEAR_RECIPE = "a path that is relative to the file it is written in"
"""Marks texts that may begin with a path, as model references do; ``Path`` needs no mark."""


class FieldError(ValueError):
    """A value that a section refuses; the reader adds where it was written."""

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"{name} {fault}")
        self.name = name


def fail(name: str, fault: str) -> NoReturn:
    """Refuse the value of a field."""
    raise FieldError(name, fault)


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
