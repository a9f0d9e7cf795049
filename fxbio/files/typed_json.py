"""Plain data of a file as instances of dataclasses, with the types of their fields checked."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

__all__ = ["from_json"]

T = TypeVar("T")

_LARGEST = 2**63


def from_json(data: object, cls: type[T]) -> T:
    """An instance of a dataclass, those in its fields included; lists become tuples.

    Of other types than those of JSON, tensors for example, a field takes instances.

    A file that anybody may have edited is checked here, once, and not where its values are used.

    Raises:
        ValueError: for a field that is missing, unknown, or of another type, naming it.
    """
    return typing.cast(T, _instance(data, cls, ""))


def _instance(data: object, cls: Any, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise ValueError(f"{where or 'it'} is no mapping, but {type(data).__name__}")
    hints, required = _fields(cls)
    prefix = f"{where}." if where else ""
    for name in data:
        if name not in hints:
            raise ValueError(f"{prefix}{name!s:.80} is unknown")
    for name in required:
        if name not in data:
            raise ValueError(f"{prefix}{name} is missing")
    return cls(**{name: _value(data[name], hints[name], prefix + name) for name in data})


@functools.cache
def _fields(cls: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The types of all fields, and the names of those without a default; looked up once."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    missing = (dataclasses.MISSING,) * 2
    required = (f.name for f in fields if (f.default, f.default_factory) == missing)
    return {field.name: hints[field.name] for field in fields}, tuple(required)


def _value(data: object, hint: Any, where: str) -> Any:
    if hint is Any or (isinstance(hint, type) and _is_plain(data, hint)):
        return data
    if dataclasses.is_dataclass(hint):
        return _instance(data, hint, where)
    origin, args = _parts(hint)
    if origin in (typing.Union, types.UnionType):
        return _alternative(data, args, where)
    if origin is typing.Literal and isinstance(data, str) and data in args:
        return data
    if origin in (tuple, Sequence, list) and isinstance(data, list):
        return tuple(_value(item, args[0], f"{where}[{i}]") for i, item in enumerate(data))
    if origin in (dict, Mapping) and isinstance(data, Mapping):
        return {key: _value(item, args[1], f"{where}.{key}") for key, item in data.items()}
    raise ValueError(f"{where:.200} cannot be {_shown(data)}")


@functools.cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(hint), typing.get_args(hint)


def _alternative(data: object, hints: Sequence[Any], where: str) -> Any:
    if data is None and type(None) in hints:
        return None
    return _value(data, next(hint for hint in hints if hint is not type(None)), where)


def _is_plain(data: object, hint: type) -> bool:
    if isinstance(data, bool) or hint is bool:
        return isinstance(data, bool) and hint is bool
    if isinstance(data, int) and hint in (int, float):
        return -_LARGEST <= data < 2 * _LARGEST
    return isinstance(data, hint)


def _shown(data: object) -> str:
    return repr(data) if data is None or isinstance(data, bool | float) else type(data).__name__
