"""The part of JSON schemas that knows the rules: their names, and the options of each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from fxbio.files.json_schema import Schema, section_schema
from fxbio.rules import Rule

__all__ = ["rules_schema"]


def rules_schema(rules: Mapping[str, type[Rule]]) -> Schema:
    """The schema of a mapping with ``rule`` and ``with``.

    Args:
        rules: rules by name.
    """
    names = [
        {"enum": [name, *cls.aliases], "description": inspect.cleandoc(cls.__doc__ or name)}
        for name, cls in rules.items()
    ]
    options = [
        {
            "if": {"properties": {"rule": {"enum": [name, *cls.aliases]}}, "required": ["rule"]},
            "then": {"properties": {"with": section_schema(cls, {})}},
        }
        for name, cls in rules.items()
    ]
    return {"properties": {"rule": {"anyOf": names}}, "allOf": options}
