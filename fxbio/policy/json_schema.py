"""A JSON Schema of the policy file, so that editors complete and check it.

``python -m fxbio.policy.json_schema`` writes the copy that is shipped.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fxbio.policy.keys import (
    DEFAULT_KEYS,
    ENTRY_KEYS,
    EXPECT_KEYS,
    OPS,
    POLICY_KEYS,
    WHERE_KEYS,
    Key,
)
from fxbio.policy.options import Option, option_descriptions, rule_options
from fxbio.rules import Rule, available_rules

__all__ = ["SHIPPED", "policy_schema"]

SHIPPED = Path(__file__).with_name("policy.schema.json")
"""The copy for the rules that come with fxbio."""

Schema = dict[str, Any]

_WHERE: Schema = {"$ref": "#/$defs/where"}
_GLOBS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_AMOUNT = {"anyOf": [{"const": True}, {"type": "integer", "minimum": 1}]}
_COUNT = {"type": "integer", "minimum": 0}


def policy_schema(rules: Mapping[str, type[Rule]] | None = None) -> Schema:
    """The schema for the given rules.

    Args:
        rules: rules by name; all that are registered when left out.
    """
    known = available_rules() if rules is None else rules
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "fxbio policy",
        "description": "Which learning rule each weight of a model gets.",
        **_object(POLICY_KEYS, _POLICY, required=["version", "default"]),
        "$defs": {
            "entry": _object(ENTRY_KEYS, _ENTRY, required=["where", "rule"]) | _options_by(known),
            "choice": _object(DEFAULT_KEYS, _CHOICE, required=["rule"]) | _options_by(known),
            "expect": _object(EXPECT_KEYS, dict.fromkeys(EXPECT_KEYS, _COUNT)),
            "where": {"anyOf": [{"type": "string"}, _object(WHERE_KEYS, _SELECTOR)]},
            "rule": _rule_names(known),
        },
    }


def _object(keys: Mapping[str, Key], values: Mapping[str, Schema], **more: Any) -> Schema:
    properties = {
        name: {**values[name], "description": key.description, "examples": [key.example]}
        for name, key in keys.items()
    }
    return {"type": "object", "additionalProperties": False, "properties": properties, **more}


def _rule_names(rules: Mapping[str, type[Rule]]) -> Schema:
    return {
        "anyOf": [
            {"enum": [name, *cls.aliases], "description": _summary(cls)}
            for name, cls in rules.items()
        ]
    }


def _options_by(rules: Mapping[str, type[Rule]]) -> Schema:
    """For each rule, what may stand under ``with``."""
    return {
        "allOf": [
            {
                "if": {"properties": {"rule": {"enum": [name, *cls.aliases]}}},
                "then": {"properties": {"with": _options(cls)}},
            }
            for name, cls in rules.items()
        ]
    }


def _options(cls: type[Rule]) -> Schema:
    options = rule_options(cls)
    described = option_descriptions(cls)
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {o.name: _option(o, described.get(o.name, "")) for o in options},
        "required": [option.name for option in options if option.required],
    }


def _option(option: Option, description: str) -> Schema:
    schema = _type_schema(option.hint)
    if not option.required:
        default = option.default
        schema["default"] = list(default) if isinstance(default, tuple) else default
    return schema | ({"description": description} if description else {})


def _type_schema(hint: Any) -> Schema:
    """The schema of a type; of one that JSON cannot express, a schema that admits everything."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return {"enum": list(typing.get_args(hint))}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_type_schema(part) for part in typing.get_args(hint)]}
    if origin is tuple:
        return _GLOBS
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return {"type": names[hint]} if hint in names else {}


def _summary(cls: type[Rule]) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]


_CHOICE: Mapping[str, Schema] = {"rule": {"$ref": "#/$defs/rule"}, "with": {"type": "object"}}

_POLICY: Mapping[str, Schema] = {
    "version": {"const": 1},
    "default": {"anyOf": [{"$ref": "#/$defs/rule"}, {"$ref": "#/$defs/choice"}]},
    "seed": {"type": "integer", "minimum": 0},
    "persist_feedback": {"type": "boolean"},
    "allow_backprop": _GLOBS,
    "rules": {"type": "array", "items": {"$ref": "#/$defs/entry"}},
}

_ENTRY: Mapping[str, Schema] = {
    **_CHOICE,
    "name": {"type": "string"},
    "where": _WHERE,
    "expect": {"$ref": "#/$defs/expect"},
    "allow_unmatched": {"type": "boolean"},
    "on_unsupported": {"enum": ["error", "bp"]},
}

_SELECTOR: Mapping[str, Schema] = {
    "module": _GLOBS,
    "regex": {"type": "string"},
    "op": {"anyOf": [{"enum": list(OPS)}, {"type": "array", "items": {"enum": list(OPS)}}]},
    "type": _GLOBS,
    "depth": {
        "type": "array",
        "items": {"type": ["number", "null"]},
        "minItems": 2,
        "maxItems": 2,
    },
    "between": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
    "any": {"type": "array", "items": _WHERE, "minItems": 1},
    "all": {"type": "array", "items": _WHERE, "minItems": 1},
    "not": _WHERE,
    "index": {
        "anyOf": [
            {"type": "integer"},
            {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            {"type": "string", "pattern": "^(-?[0-9]+)?:(-?[0-9]+)?$"},
        ]
    },
    "first": _AMOUNT,
    "last": _AMOUNT,
}


if __name__ == "__main__":
    text = json.dumps(policy_schema(), indent=2, ensure_ascii=False)
    SHIPPED.write_text(text + "\n", encoding="utf-8")
