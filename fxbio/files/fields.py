"""Fields of dataclasses as keys of a file: types, defaults, descriptions, and marks on them.

What a type cannot say stands in ``Annotated`` beside it::

    count: Annotated[int | None, Mark.NOT_NULL, AtLeast(0), Example("53")] = None
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeVar

if typing.TYPE_CHECKING:
    from fxbio.files.located_yaml import Node

__all__ = [
    "AtLeast",
    "Example",
    "Key",
    "Mark",
    "Option",
    "ReadAs",
    "alternatives",
    "fits",
    "mark_of",
    "options_of",
    "unwrapped",
    "written_types",
]

M = TypeVar("M")


class Mark(Enum):
    """Metadata of a field."""

    NEAR_FILE = "names a Python file, or holds such names, relative to the file it stands in"
    INLINE = "the keys of this section stand beside the others, not below one of their own"
    NOT_NULL = "must have a value where its key is written"
    REQUIRED = "must be written, though in Python it has a default"
    UNWRITTEN = "is no key"


@dataclass(frozen=True)
class Key:
    """The key of a field, where it is not its name."""

    name: str


@dataclass(frozen=True)
class AtLeast:
    """The smallest number, or the shortest list or text."""

    least: int


@dataclass(frozen=True)
class Example:
    """A value as it is written, for messages and schemas."""

    text: str


@dataclass(frozen=True, eq=False)
class ReadAs:
    """A way of its own to read a value."""

    read: Callable[[Node, str], Any]
    """Of the value and the name of its key; raises at its place."""

    schema: Any
    """The JSON schema of what may be written, or a type that has it."""


@dataclass(frozen=True)
class Option:
    """One field."""

    owner: type[Any]
    name: str
    key: str
    """What it is called in a file."""
    hint: Any
    """Its type, resolved, without the marks."""
    marks: tuple[Any, ...]
    required: bool
    default: Any
    """``None`` where it is required."""

    @property
    def annotated(self) -> Any:
        """Its type with the marks."""
        return typing.Annotated[self.hint, *self.marks] if self.marks else self.hint

    @property
    def description(self) -> str:
        """The string below it in the source."""
        found = _descriptions(self.owner)  # type: ignore[arg-type]  # a class is hashable
        return found.get(self.name, "").replace("``", "")


def options_of(cls: type[Any]) -> tuple[Option, ...]:
    """The fields of a dataclass that are keys, in their order."""
    return _options(cls)  # type: ignore[arg-type]  # a class is hashable


@functools.cache  # typing compiles each annotation anew, and policies are read by the thousand
def _options(cls: type[Any]) -> tuple[Option, ...]:
    hints = _hints(cls)
    options = [_option(cls, field, hints.get(field.name, Any)) for field in dataclasses.fields(cls)]
    return tuple(option for option in options if Mark.UNWRITTEN not in option.marks)


def _option(cls: type[Any], field: dataclasses.Field[Any], annotated: Any) -> Option:
    hint, marks = unwrapped(annotated)
    key = mark_of(marks, Key)
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    missing = default is dataclasses.MISSING
    return Option(
        owner=cls,
        name=field.name,
        key=key.name if key else field.name,
        hint=hint,
        marks=marks,
        required=missing or Mark.REQUIRED in marks,
        default=None if missing else default,
    )


def _hints(cls: type[Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError:  # names that a plug-in imports for type checkers only
        return {}


def unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type and the marks on it."""
    if typing.get_origin(hint) is typing.Annotated:
        bare, *marks = typing.get_args(hint)
        return bare, tuple(marks)
    return hint, ()


def mark_of(marks: tuple[Any, ...], kind: type[M]) -> M | None:
    """The mark of a kind, or ``None``."""
    return next((mark for mark in marks if isinstance(mark, kind)), None)


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The parts of a union, or the type alone."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def written_types(hint: Any, marks: tuple[Any, ...]) -> tuple[Any, ...]:
    """The parts of a type whose values may be written."""
    parts = alternatives(hint)
    if Mark.NOT_NULL not in marks:
        return parts
    return tuple(part for part in parts if part is not type(None))


def fits(value: Any, hint: Any) -> bool:
    """Check a value from YAML against a type; types that YAML cannot express always fit."""
    hint, _ = unwrapped(hint)
    origin = typing.get_origin(hint)
    if origin is Literal:
        return any(type(value) is type(c) and value == c for c in typing.get_args(hint))
    if len(alternatives(hint)) > 1:
        return any(fits(value, part) for part in alternatives(hint))
    if origin is tuple:  # written as one value or as a list of them
        item = typing.get_args(hint)[0]
        return all(fits(v, item) for v in (value if isinstance(value, list | tuple) else [value]))
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (bool, str) else True


@functools.cache
def _descriptions(cls: type[Any]) -> Mapping[str, str]:
    """The strings below the fields, which only the source has."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError):  # made without a file
            continue
        found |= _field_strings(tree.body[0])
    return found


def _field_strings(tree: ast.stmt) -> dict[str, str]:
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    found = {}
    for above, below in itertools.pairwise(body):
        if not isinstance(above, ast.AnnAssign) or not isinstance(above.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[above.target.id] = inspect.cleandoc(str(below.value.value))
    return found
