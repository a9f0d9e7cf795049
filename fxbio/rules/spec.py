"""Spec strings: ``usf{magnitude=xiao}``, the one-line form of a rule or a pass and its options.

A spec prints from a dataclass and parses back to it, so it can stand on a command line, in a
graph node, and in a saved record. Values are YAML scalars or flow lists.
"""

from __future__ import annotations

import re
from typing import Any

from fxbio.errors import FxbioError
from fxbio.files.located_yaml import parse
from fxbio.files.yaml_scalars import flow_yaml

__all__ = ["format_spec", "parse_spec", "split_specs"]

_SPEC = re.compile(r"(?P<name>[a-z][a-z0-9-]*)(?:\{(?P<body>.*)\})?", re.DOTALL)
_QUOTED = re.compile(r"""(?<=[=,:\[{\s])('(?:[^']|'')*'|"(?:[^"\\]|\\.)*")""")


def format_spec(name: str, options: dict[str, Any]) -> str:
    """``name{key=value,…}``, or the bare name without options."""
    if not options:
        return name
    body = ",".join(f"{key}={flow_yaml(value)}" for key, value in options.items())
    return f"{name}{{{body}}}"


def parse_spec(text: str) -> tuple[str, dict[str, Any]]:
    """The name and the options of one spec.

    Raises:
        FxbioError: when the text is not of the form ``name{key=value,…}`` with values in YAML.
    """
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        raise FxbioError(
            f"'{text}' is not a spec", help="write name or name{option=value,other=value}"
        )
    body = match["body"]
    options: dict[str, Any] = {}
    for item in _split(body) if body else []:
        key, equals, value = item.partition("=")
        if not equals:
            raise FxbioError(f"option '{item}' of '{match['name']}' has no value")
        options[key.strip()] = parse(value, "option", f"option '{key.strip()}'", FxbioError).plain()
    return match["name"], options


def split_specs(text: str) -> list[str]:
    """The specs of a comma-separated pipeline; commas inside braces do not separate."""
    return [part.strip() for part in _split(text) if part.strip()]


def _split(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    blanked = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), text)
    for position, character in enumerate(blanked):
        depth += (character in "{[") - (character in "}]")
        if character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]
