"""The core schema of YAML 1.2, which every file and argument is read and written by.

PyYAML by itself follows 1.1: there ``1:5`` is the number 65 (base 60), ``1e-3`` is a string, and
``no`` is false.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

__all__ = ["SCALARS", "TAG", "Scalar", "flow_yaml", "read_scalar", "to_yaml"]

Scalar: TypeAlias = str | int | float | bool | None

TAG = "tag:yaml.org,2002:"
_BASES = {"0o": 8, "0x": 16}
_WIDTH = 100


def _whole_number(text: str) -> int:
    return int(text, _BASES.get(text[:2], 10))


def _number(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


@dataclass(frozen=True)
class ScalarType:
    """A type of plain scalars: how it is written, and what it is read as."""

    words: str
    pattern: str
    first: str
    """The characters that it may begin with."""
    convert: Callable[[str], Scalar]

    @property
    def regex(self) -> re.Pattern[str]:
        """Matches a whole scalar."""
        return re.compile(rf"(?:{self.pattern})\Z")


SCALARS: Mapping[str, ScalarType] = {
    TAG + "null": ScalarType("null", "|~|null|Null|NULL", "~nN", lambda _: None),
    TAG + "bool": ScalarType(
        "true or false",
        "true|True|TRUE|false|False|FALSE",
        "tTfF",
        lambda text: text.lower() == "true",
    ),
    TAG + "int": ScalarType(
        "a whole number",
        "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
        "-+0123456789",
        _whole_number,
    ),
    TAG + "float": ScalarType(
        "a number",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
        _number,
    ),
}
"""By tag, in the order in which they are tried; what is none of them is a text."""


def read_scalar(tag: str, text: str) -> Scalar:
    """The value of a scalar.

    Raises:
        ValueError: when an explicit tag stands before something else, as in ``!!int x``.
    """
    if tag not in SCALARS:
        return text
    if not SCALARS[tag].regex.match(text):
        raise ValueError(f"'{text}' is not {SCALARS[tag].words}")
    return SCALARS[tag].convert(text)


class _Dumper(yaml.SafeDumper):
    """Puts quotes around texts that YAML 1.1 or 1.2 takes for something else."""


for _tag, _type in SCALARS.items():
    _Dumper.add_implicit_resolver(_tag, _type.regex, list(_type.first))


def to_yaml(value: Any) -> str:
    """Plain values as a YAML document that reads back as equal ones."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return text


def flow_yaml(value: Any) -> str:
    """A value in one line, with the quotes that keep its commas and braces to itself."""
    text: str = yaml.dump([value], Dumper=_Dumper, default_flow_style=True, width=10**6)
    return text.strip().removeprefix("[").removesuffix("]")
