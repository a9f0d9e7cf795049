"""From positioned YAML to dataclasses; every mistake is reported where it stands."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fxbio.errors import ConfigError, FxbioError, PolicyError, did_you_mean
from fxbio.files.located_yaml import Node
from fxbio.policy.checks import as_mapping
from fxbio.policy.keys import Key
from fxbio.policy.options import fits, option_descriptions, rule_options
from fxbio.train.checked import NEAR_RECIPE, FieldError
from fxbio.userfile import anchored, anchored_path

__all__ = ["is_word", "read_section"]

S = TypeVar("S")


def read_section(node: Node, cls: type[S], what: str) -> S:
    """An instance of a dataclass from a mapping.

    Args:
        node: the mapping; ``null`` stands for an empty one.
        cls: the dataclass; its docstring and those of its fields are quoted in errors.
        what: what it is, for messages.

    Raises:
        ConfigError: for unknown or missing keys, and for values of another type or out of range.
    """
    keys = _keys(cls)
    required = tuple(option.name for option in rule_options(cls) if option.required)
    try:
        given = as_mapping(
            _filled(node), what, keys, required=required, elsewhere=_option_hints(node, keys)
        )
    except PolicyError as error:
        raise as_config_error(error) from error
    hints = typing.get_type_hints(cls, include_extras=True)
    values = {name: _read(child, hints[name], name) for name, child in given.items()}
    try:
        return cls(**values)
    except FieldError as error:
        blamed = given.get(error.name, node)
        raise ConfigError(
            f"{error.headline} (in {what})",
            location=blamed.location,
            notes=[*error.notes, *_note(keys, error.name)],
        ) from error


def as_config_error(error: FxbioError) -> ConfigError:
    """The same error, about a recipe."""
    return ConfigError(error.headline, location=error.location, notes=error.notes, help=error.help)


def _keys(cls: type[Any]) -> dict[str, Key]:
    descriptions = option_descriptions(cls)
    return {
        option.name: Key(
            descriptions.get(option.name, "").replace("``", ""),
            f"{option.name}: {_example(option)}",
        )
        for option in rule_options(cls)
    }


def _example(option: Any) -> str:
    if dataclasses.is_dataclass(option.hint) or typing.get_origin(option.hint) is not None:
        return "{...}" if option.default is None else "..."
    return "..." if option.default is None else str(option.default)


def _option_hints(node: Node, keys: Mapping[str, Key]) -> dict[str, str]:
    """For arguments that were written beside ``options`` instead of below it."""
    if "options" not in keys or not isinstance(node.value, dict):
        return {}
    strange = [key for key in node.value if key not in keys and not did_you_mean(key, keys)]
    return {key: f"if it is an argument of the class: options: {{{key}: ...}}" for key in strange}


def _filled(node: Node) -> Node:
    return dataclasses.replace(node, value={}) if node.value is None else node


def _note(keys: Mapping[str, Key], name: str) -> list[str]:
    return [f"{name}: {keys[name].description}"] if keys[name].description else []


def _read(node: Node, hint: Any, name: str) -> Any:
    if typing.get_origin(hint) is typing.Annotated:
        hint, *marks = typing.get_args(hint)
        value = _read(node, hint, name)
        return _anchored(value, node) if NEAR_RECIPE in marks else value
    sections = [part for part in _alternatives(hint) if dataclasses.is_dataclass(part)]
    if sections and (sections == [hint] or node.value is not None):
        return read_section(node, typing.cast(type[Any], sections[0]), f"'{name}'")
    if typing.get_origin(hint) is tuple:
        return _read_list(node, typing.get_args(hint)[0], name)
    if Path in _alternatives(hint) and node.value is not None:
        return _read_path(node, name)
    return _read_plain(node, hint, name)


def _read_list(node: Node, item: Any, name: str) -> tuple[Any, ...]:
    if isinstance(node.value, str) and is_word(item):
        return (_read(node, item, name),)
    if not isinstance(node.value, list):
        raise _wrong(node, name, "a list")
    return tuple(_read(child, item, name) for child in node.value)


def is_word(hint: Any) -> bool:
    """Whether values of a type are words: one of them may stand where a list of them is wanted."""
    if typing.get_origin(hint) is typing.Annotated:
        return is_word(typing.get_args(hint)[0])
    return hint is str or typing.get_origin(hint) is typing.Literal


def _read_path(node: Node, name: str) -> Path:
    if not isinstance(node.value, str):
        raise _wrong(node, name, "a path")
    return anchored_path(node.value, node.folder)


def _read_plain(node: Node, hint: Any, name: str) -> Any:
    value = node.plain()
    origins = [typing.get_origin(part) or part for part in _alternatives(hint)]
    if Mapping in origins or any(isinstance(o, type) and issubclass(o, Mapping) for o in origins):
        fitting = isinstance(value, dict) or (str in origins and isinstance(value, str))
    else:
        fitting = fits(value, hint)
    if not fitting:
        guess = did_you_mean(str(value), _choices(hint))
        raise _wrong(node, name, _type_text(hint), [guess] if guess else [])
    return float(value) if float in origins and isinstance(value, int) else value


def _alternatives(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    Path: "a path",
    type(None): "null",
}


def _type_text(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(str(choice) for choice in typing.get_args(hint))
    parts = _alternatives(hint)
    if len(parts) > 1:
        return " or ".join(_type_text(part) for part in parts)
    return _NAMES.get(hint, "a mapping")


def _choices(hint: Any) -> list[str]:
    literals = [part for part in _alternatives(hint) if typing.get_origin(part) is typing.Literal]
    return [str(choice) for part in literals for choice in typing.get_args(part)]


def _wrong(node: Node, name: str, expected: str, notes: Sequence[str] = ()) -> ConfigError:
    value = node.plain()
    found = "nothing" if value is None else repr(value)
    return ConfigError(
        f"{name} must be {expected}, not {found}", location=node.location, notes=notes
    )


def _anchored(value: Any, node: Node) -> Any:
    """A reference to a file of the user, or options some of which are such references."""
    if isinstance(value, str):
        return anchored(value, node.folder)
    if isinstance(value, Mapping) and isinstance(node.value, dict):
        return {key: _anchored(item, node.value[key]) for key, item in value.items()}
    return value
