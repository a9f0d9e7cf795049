"""The options of a rule, read from its dataclass: types, defaults and descriptions."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from fxbio.rules import Rule

__all__ = ["Option", "fits", "option_descriptions", "rule_options"]


@dataclass(frozen=True)
class Option:
    """One option of a rule."""

    name: str
    hint: Any
    """Its type, resolved."""
    required: bool
    default: Any
    """``None`` where it is required."""


def rule_options(cls: type[Any]) -> tuple[Option, ...]:
    """The options of the class of a rule or a pass, in the order of its fields."""
    hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    return tuple(
        Option(
            name=f.name,
            hint=hints.get(f.name, Any),
            required=_default(f) is dataclasses.MISSING,
            default=None if _default(f) is dataclasses.MISSING else _default(f),
        )
        for f in dataclasses.fields(cls)
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from YAML is of a type; types that YAML cannot express always fit."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in typing.get_args(hint))
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


@functools.cache  # typing compiles each annotation anew, and policies are read by the thousand
def _hints(cls: type[Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError:  # names that a plug-in imports for type checkers only
        return {}


def option_descriptions(cls: type[Rule]) -> dict[str, str]:
    """The strings below the fields of a rule class, which only its source has."""
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
