"""JSON Schemas of files that are read into dataclasses, so that editors complete and check them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fxbio.files.fields import (
    AtLeast,
    Example,
    Mark,
    Option,
    ReadAs,
    mark_of,
    options_of,
    unwrapped,
    written_types,
)
from fxbio.files.located_yaml import parse
from fxbio.files.typed_yaml import is_word, keys_of

__all__ = ["Schema", "file_schema", "section_schema"]

Schema = dict[str, Any]

_TYPES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    Path: "string",
    type(None): "null",
}


def file_schema(cls: type[Any], title: str) -> Schema:
    """The schema of a file.

    Args:
        cls: the dataclass that it is read into. A class may have a function ``more_schema()``,
            which gives what holds beyond its fields.
        title: what the file is.
    """
    definitions: dict[str, Schema] = {}
    section = section_schema(cls, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **section,
        "$defs": dict(sorted(definitions.items())),
    }


def section_schema(cls: type[Any], definitions: dict[str, Schema]) -> Schema:
    """The schema of a mapping that is read into a dataclass.

    Args:
        cls: the dataclass.
        definitions: gets the schemas of the sections below it by the names of their classes.
    """
    keys = keys_of(cls)
    schema: Schema = {
        "type": "object",
        "description": inspect.cleandoc(cls.__doc__ or "").partition("\n")[0],
        "additionalProperties": False,
        "properties": {key: _property(option, definitions) for key, option in keys.items()},
    }
    required = [key for key, option in keys.items() if option.required]
    if required:
        schema["required"] = required
    inlined = [o.hint for o in options_of(cls) if Mark.INLINE in o.marks]
    more = [_more(part, definitions) for part in (cls, *inlined) if hasattr(part, "more_schema")]
    return schema | ({"allOf": more} if more else {})


def _more(cls: type[Any], definitions: dict[str, Schema]) -> Schema:
    name = f"{cls.__name__}.more"
    if name not in definitions:
        definitions[name] = cls.more_schema()
    return {"$ref": f"#/$defs/{name}"}


def _property(option: Option, definitions: dict[str, Schema]) -> Schema:
    schema = dict(_value(option.annotated, definitions))
    example = mark_of(option.marks, Example)
    if option.description:
        schema["description"] = " ".join(option.description.split())
    own = mark_of(option.marks, ReadAs) or mark_of(option.marks, AtLeast)  # may not be written
    if option.default is not None and not own and not dataclasses.is_dataclass(option.default):
        schema["default"] = json.loads(json.dumps(option.default, default=str))
    if example:
        schema["examples"] = [parse(example.text, option.key).plain()]
    return schema


def _value(hint: Any, definitions: dict[str, Schema]) -> Schema:
    bare, marks = unwrapped(hint)
    own = mark_of(marks, ReadAs)
    if own:
        given = own.schema
        return dict(given) if isinstance(given, Mapping) else _value(given, definitions)
    return _any_of([_one(part, marks, definitions) for part in written_types(bare, marks)])


def _any_of(schemas: list[Schema]) -> Schema:
    """One schema for several, those that are such themselves spread out."""
    spread = [part for s in schemas for part in (s["anyOf"] if s.keys() == {"anyOf"} else [s])]
    return spread[0] if len(spread) == 1 else {"anyOf": spread}


def _one(hint: Any, marks: tuple[Any, ...], definitions: dict[str, Schema]) -> Schema:
    """The schema of a type that is no union; what JSON cannot express is all admitted."""
    least = mark_of(marks, AtLeast)
    origin = typing.get_origin(hint) or hint
    if origin is Literal:
        return {"enum": list(typing.get_args(hint))}
    if dataclasses.is_dataclass(hint):
        return _reference(typing.cast(type[Any], hint), marks, definitions)
    if origin is tuple:
        item = _value(typing.get_args(hint)[0], definitions)
        several = {"type": "array", "items": item, **({"minItems": least.least} if least else {})}
        return _any_of([item, several]) if is_word(typing.get_args(hint)[0]) else several
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object"}
    if hint not in _TYPES:
        return {}
    bound = {"minLength" if hint is str else "minimum": least.least} if least else {}
    return {"type": _TYPES[hint], **bound}


def _reference(cls: type[Any], marks: tuple[Any, ...], definitions: dict[str, Schema]) -> Schema:
    name = cls.__name__
    if name not in definitions:
        definitions[name] = {}  # it may hold itself
        definitions[name] = section_schema(cls, definitions)
    here = {"$ref": f"#/$defs/{name}"}
    if hasattr(cls, "of_text"):
        return {"anyOf": [{"type": "string", "minLength": 1}, here]}
    empty = not any(option.required for option in keys_of(cls).values())
    return {"anyOf": [here, {"type": "null"}]} if empty and Mark.NOT_NULL not in marks else here
