"""Errors about values: what was expected, what was found, and how it is written."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fxbio.errors import FxbioError, did_you_mean
from fxbio.files.fields import Example, Option, alternatives, mark_of
from fxbio.files.located_yaml import Node

__all__ = ["described", "example_of", "mistyped", "wrong"]

_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    Path: "a path",
    type(None): "null",
}


def mistyped(node: Node, name: str, hint: Any, marks: tuple[Any, ...]) -> FxbioError:
    """An error about a value of another type than it should have."""
    return wrong(node, name, _type_text(hint), choices=_choices(hint), marks=marks)


def wrong(
    node: Node,
    name: str,
    expected: str,
    *,
    choices: Sequence[str] = (),
    marks: tuple[Any, ...] = (),
    example: str = "",
) -> FxbioError:
    """An error about a value that is not as expected; those of choices get the closest."""
    guess = did_you_mean(str(node.value), choices)
    given = mark_of(marks, Example)
    example = f"{name}: {given.text}" if given else example
    return node.fault(
        f"{name} must be {expected}, not {_kind(node, quoted=bool(choices))}",
        notes=[guess] if guess else [],
        help=f"write, for example: {example}" if example else None,
    )


def _kind(node: Node, quoted: bool) -> str:
    value = node.value
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        if quoted:
            return repr(value)
        return f"the text '{value}'" if value else "an empty text"
    return "nothing" if value is None else str(value)


def described(option: Option) -> list[str]:
    """The documentation of a key, as a note."""
    return [f"{option.key}: {option.description}"] if option.description else []


def example_of(option: Option) -> str:
    """A key and a value as they are written."""
    given = mark_of(option.marks, Example)
    if given:
        return f"{option.key}: {given.text}"
    if option.default is None:
        return f"{option.key}: {'{...}' if dataclasses.is_dataclass(option.hint) else '...'}"
    plain = isinstance(option.default, str | int | float)
    return f"{option.key}: {option.default if plain else '...'}"


def _type_text(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(str(choice) for choice in typing.get_args(hint))
    if len(alternatives(hint)) > 1:
        return " or ".join(_type_text(part) for part in alternatives(hint))
    return _NAMES.get(hint, "a mapping")


def _choices(hint: Any) -> list[str]:
    literals = [part for part in alternatives(hint) if typing.get_origin(part) is typing.Literal]
    return [str(choice) for part in literals for choice in typing.get_args(part)]
