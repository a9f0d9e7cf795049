"""Located YAML as instances of frozen dataclasses, by the types of their fields.

A field is a key. The text below it is quoted in errors, and marks on its type (``fields.py``) say
what a type cannot. A class may have:

``of_text(text)``
    the mapping that a bare text stands for, as ``{"rule": text}``;
``home_of(key, node)``
    where a key that it does not have belongs;
``checked_at(node)``
    itself, or another in its place, after checks that need the places of its values;
``__post_init__``
    checks that raise a ``FieldError``, which is placed at the field that it names.

A field ``location`` gets the place of the whole.
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from fxbio.errors import FxbioError, did_you_mean
from fxbio.files.anchored import anchored, anchored_path
from fxbio.files.fields import (
    AtLeast,
    Mark,
    Option,
    ReadAs,
    alternatives,
    fits,
    mark_of,
    options_of,
    unwrapped,
    written_types,
)
from fxbio.files.located_yaml import Node
from fxbio.files.value_errors import described, example_of, mistyped, wrong

__all__ = [
    "FieldError",
    "entry_type",
    "is_word",
    "keys_of",
    "read_section",
    "read_value",
    "section_of",
]

S = TypeVar("S")


class FieldError(FxbioError):
    """A value that a dataclass refuses; the reader adds where it was written."""

    def __init__(self, name: str, fault: str, notes: Iterable[str] = ()) -> None:
        super().__init__(f"{name} {fault}", notes=notes)
        self.name = name


def keys_of(cls: type[Any]) -> Mapping[str, Option]:
    """Keys that a section may have, those of inlined sections included."""
    return _keys(cls)  # type: ignore[arg-type]  # a class is hashable


@functools.cache
def _keys(cls: type[Any]) -> Mapping[str, Option]:
    keys: dict[str, Option] = {}
    for option in options_of(cls):
        keys |= keys_of(option.hint) if Mark.INLINE in option.marks else {option.key: option}
    return keys


def section_of(hint: Any) -> type[Any] | None:
    """The dataclass among the alternatives of a type, if it is read by its fields."""
    bare, marks = unwrapped(hint)
    if mark_of(marks, ReadAs):
        return None
    parts = [part for part in alternatives(bare) if dataclasses.is_dataclass(part)]
    return typing.cast(type[Any], parts[0]) if parts else None


def entry_type(hint: Any) -> Any:
    """The type of the entries of a list, or ``None`` for what is none."""
    bare, marks = unwrapped(hint)
    is_list = typing.get_origin(bare) is tuple and not mark_of(marks, ReadAs)
    return typing.get_args(bare)[0] if is_list else None


def is_word(hint: Any) -> bool:
    """True if values of a type are words: one of them may stand where a list of them is wanted."""
    bare, marks = unwrapped(hint)
    if mark_of(marks, ReadAs) or hasattr(bare, "of_text"):
        return True
    return bare is str or typing.get_origin(bare) is typing.Literal


def read_section(node: Node, cls: type[S], what: str) -> S:
    """An instance of a dataclass from a mapping.

    Args:
        node: the mapping; ``null`` stands for an empty one where no key is required.
        cls: the dataclass.
        what: what it is, for messages.

    Raises:
        FxbioError: of the class ``node.error``, for unknown or missing keys, and for values of
            another type or out of range.
    """
    node = _mapping(node, cls, what)
    values: dict[str, Any] = {}
    for option in options_of(cls):
        if Mark.INLINE in option.marks:
            values[option.name] = read_section(_only(node, keys_of(option.hint)), option.hint, what)
        elif option.key in node.below:
            child = node.below[option.key]
            values[option.name] = read_value(child, option.annotated, option.key)
    if any(field.name == "location" for field in dataclasses.fields(cls)):  # type: ignore[arg-type]
        values["location"] = node.location
    try:
        made = cls(**values)
    except FieldError as error:
        raise _refused(error, node, cls, what) from error
    return typing.cast(S, made.checked_at(node)) if hasattr(made, "checked_at") else made


def _mapping(node: Node, cls: type[Any], what: str) -> Node:
    """The section with its keys checked."""
    keys = keys_of(cls)
    node = _spelled_out(node, cls)
    if not isinstance(node.value, dict):
        kinds = "a text or a mapping" if hasattr(cls, "of_text") else "a mapping"
        raise wrong(node, what, kinds, example=example_of(next(iter(keys.values()))))
    for key, value in node.value.items():
        if key not in keys:
            hint = _home(key, node, cls) or did_you_mean(key, keys)
            notes = [*([hint] if hint else []), f"allowed: {', '.join(keys)}"]
            raise value.at_key.fault(f"unknown key '{key}' in {what}", notes=notes)
    for key, option in keys.items():
        if option.required and key not in node.value:
            raise node.fault(
                f"{what} has no '{key}'",
                notes=described(option),
                help=f"write, for example: {example_of(option)}",
            )
    return node


def _spelled_out(node: Node, cls: type[Any]) -> Node:
    """The mapping that a bare text, or nothing at all, stands for."""
    if hasattr(cls, "of_text"):
        texts = cls.of_text(node.value) if isinstance(node.value, str) and node.value else None
        if texts is None:
            return node
        return replace(node, value={key: replace(node, value=v) for key, v in texts.items()})
    empty = node.value is None and not any(option.required for option in keys_of(cls).values())
    return replace(node, value={}) if empty else node


def _only(node: Node, keys: Iterable[str]) -> Node:
    return replace(node, value={k: v for k, v in node.below.items() if k in keys})


def _home(key: str, node: Node, cls: type[Any]) -> str:
    """Section that a misplaced key belongs to, as far as that is known."""
    told: str = cls.home_of(key, node) if hasattr(cls, "home_of") else ""
    if told:
        return told
    keys = keys_of(cls)
    homes = [
        f"'{name}'"
        for name, option in keys.items()
        for inner in (option.annotated, entry_type(option.annotated))
        if (section := section_of(inner)) and key in keys_of(section)
    ]
    if homes:
        return f"'{key}' belongs under {' or '.join(homes)}"
    if "options" in keys and not did_you_mean(key, keys):
        return f"if it is an argument of the class: options: {{{key}: ...}}"
    return ""


def _refused(error: FieldError, node: Node, cls: type[Any], what: str) -> FxbioError:
    option = next(option for option in options_of(cls) if option.name == error.name)
    return node.below.get(option.key, node).fault(
        f"{error.headline} (in {what})", notes=[*error.notes, *described(option)]
    )


def read_value(node: Node, hint: Any, name: str) -> Any:
    """A value of a type.

    Args:
        node: the value.
        hint: its type, with marks or without.
        name: its key, for messages.

    Raises:
        FxbioError: of the class ``node.error``.
    """
    bare, marks = unwrapped(hint)
    own = mark_of(marks, ReadAs)
    types = written_types(bare, marks)
    if own:
        value = own.read(node, name)
    elif node.value is None and type(None) in types:
        value = None
    else:
        value = _read(node, typing.Union[types], name, marks)  # noqa: UP007  (of a tuple)
    return _anchored(value, node) if Mark.NEAR_FILE in marks else value


def _read(node: Node, hint: Any, name: str, marks: tuple[Any, ...]) -> Any:
    section = section_of(hint)
    if section:
        return read_section(node, section, f"'{name}'")
    if entry_type(hint):
        return _read_list(node, entry_type(hint), name, marks)
    if Path in alternatives(hint):
        if not isinstance(node.value, str):
            raise wrong(node, name, "a path")
        return anchored_path(node.value, node.folder)
    return _read_plain(node, hint, name, marks)


def _read_list(node: Node, item: Any, name: str, marks: tuple[Any, ...]) -> tuple[Any, ...]:
    single = isinstance(node.value, str) and is_word(item)
    short = mark_of(marks, AtLeast)
    if not single and not isinstance(node.value, list):
        raise wrong(node, name, "a text or a list" if is_word(item) else "a list", marks=marks)
    if short and len(node.items) < short.least:
        raise wrong(node, name, f"a list of at least {short.least}", marks=marks)
    return tuple(_read_item(child, item, name, n) for n, child in enumerate(node.items, start=1))


def _read_item(node: Node, hint: Any, name: str, number: int) -> Any:
    section = section_of(hint)
    if section:
        return read_section(node, section, f"entry {number} of '{name}'")
    return read_value(node, hint, name)


def _read_plain(node: Node, hint: Any, name: str, marks: tuple[Any, ...]) -> Any:
    value = node.plain()
    origins = [typing.get_origin(part) or part for part in alternatives(hint)]
    if any(isinstance(o, type) and issubclass(o, Mapping) for o in origins):
        fitting = isinstance(value, dict) or (str in origins and isinstance(value, str))
    else:
        fitting = fits(value, hint)
    if not fitting:
        raise mistyped(node, name, hint, marks)
    least = mark_of(marks, AtLeast)
    if least and (len(value) if isinstance(value, str) else value) < least.least:
        raise wrong(node, name, "a text" if value == "" else f"at least {least.least}", marks=marks)
    return float(value) if float in origins and isinstance(value, int) else value


def _anchored(value: Any, node: Node) -> Any:
    """A reference to a file of the user, or options some of which are such references."""
    if isinstance(value, str):
        return anchored(value, node.folder)
    if isinstance(value, Mapping):
        return {key: _anchored(item, node.below[key]) for key, item in value.items()}
    return value
