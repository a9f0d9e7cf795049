"""Values of a selector that have a syntax of their own: globs, ops, ranges, positions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias, get_args

from fxbio.errors import did_you_mean
from fxbio.files.fields import AtLeast, Example, ReadAs
from fxbio.files.located_yaml import Node
from fxbio.files.typed_yaml import read_value
from fxbio.globs import Pattern, glob_fault, regex_fault
from fxbio.site import OpKind

__all__ = [
    "OPS",
    "Amount",
    "Between",
    "Depth",
    "DepthRange",
    "Glob",
    "GlobText",
    "OpName",
    "Positions",
    "Regex",
    "Span",
]

OPS: Mapping[str, frozenset[str]] = {
    **{kind: frozenset({kind}) for kind in get_args(OpKind)},
    "conv": frozenset({"conv1d", "conv2d", "conv3d"}),
    "conv_transpose": frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}),
    # Which sites lie inside attention is known to the site, not to its op.
    "attention": frozenset(),
}
"""Names of operations in a policy, and the kinds of site that each stands for."""


@dataclass(frozen=True)
class Span:
    """A slice of positions, ``a:b``."""

    start: int | None
    stop: int | None

    def __str__(self) -> str:
        ends = ("" if end is None else str(end) for end in (self.start, self.stop))
        return ":".join(ends)


@dataclass(frozen=True)
class Depth:
    """An inclusive range of layers, or of fractions of the model's depth."""

    low: float | None
    high: float | None
    fraction: bool


def _glob(node: Node, name: str) -> Pattern:
    text: str = read_value(node, str, name)
    fault = glob_fault(text)
    if fault:
        raise node.fault(
            f"malformed glob '{text}'",
            notes=[fault],
            help="* is within one segment of a path, ** is any number of segments",
        )
    return Pattern(text, location=node.location)


def _glob_text(node: Node, name: str) -> str:
    return _glob(node, name).text


def _regex(node: Node, name: str) -> Pattern:
    text: str = read_value(node, Annotated[str, AtLeast(1)], name)
    fault = regex_fault(text)
    if fault:
        raise node.fault(
            f"malformed regular expression: {fault}",
            help="for paths with * and ** use module: instead",
        )
    return Pattern(text, "regex", node.location)


def _op(node: Node, name: str) -> str:
    text: str = read_value(node, str, name)
    if text not in OPS:
        guess = did_you_mean(text, OPS)
        raise node.fault(
            f"unknown op '{text}'",
            notes=[*([guess] if guess else []), f"allowed: {', '.join(OPS)}"],
            help="list the sites and their ops with: fxbio inspect MODEL",
        )
    return text


def _depth(node: Node, name: str) -> Depth:
    ends = [read_value(end, float | None, name) for end in _ends(node, name)]
    given = [end for end in ends if end is not None]
    fraction = any(isinstance(end.value, float) for end in node.items)
    fault = None
    if not given:
        fault = "both ends are open"
    elif len(given) == 2 and given[0] > given[1]:
        fault = "the range is empty"
    elif fraction and not all(0 <= end <= 1 for end in given):
        fault = "fractions lie between 0.0 and 1.0"
    elif min(given) < 0:
        fault = "layers count from 0"
    if fault:
        raise node.fault(
            f"{name} makes no sense: {fault}",
            notes=[
                "whole numbers count layers from the input; with a decimal point at either end "
                "both are fractions of the model's depth; an open end is null"
            ],
            help=f"write, for example: {name}: [0.5, 1.0]",
        )
    low, high = ends
    return Depth(low, high, fraction)


def _between(node: Node, name: str) -> tuple[Pattern, Pattern]:
    first, second = (_glob(end, name) for end in _ends(node, name))
    return first, second


def _ends(node: Node, name: str) -> list[Node]:
    if not isinstance(node.value, list) or len(node.value) != 2:
        found = f"{len(node.items)}" if isinstance(node.value, list) else repr(node.plain())
        raise node.fault(f"{name} needs a list of two ends, not {found}")
    return node.value


_POSITIONS = 'index: 0, or [0, -1], or "2:5"'


def _positions(node: Node, name: str) -> tuple[int, ...] | Span:
    if not isinstance(node.value, str):
        whole = Annotated[int, Example(_POSITIONS.removeprefix("index: "))]
        listed = [read_value(item, whole, name) for item in node.items]
        if not listed:
            raise node.fault(f"{name} is an empty list", help=f"write, for example: {_POSITIONS}")
        return tuple(listed)
    span = re.fullmatch(r"(-?[0-9]{1,18})?:(-?[0-9]{1,18})?", node.value)
    if span is None:
        raise node.fault(
            f"'{node.value}' is not a slice of positions", help=f"write, for example: {_POSITIONS}"
        )
    start, stop = (None if end is None else int(end) for end in span.groups())
    return Span(start, stop)


def _amount(node: Node, name: str) -> int:
    if node.value is True:
        return 1
    amount: int = read_value(node, Annotated[int, AtLeast(1), Example("true, or 3")], name)
    return amount


_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}

Glob: TypeAlias = Annotated[Pattern, ReadAs(_glob, _TEXT)]
GlobText: TypeAlias = Annotated[str, ReadAs(_glob_text, _TEXT)]
Regex: TypeAlias = Annotated[Pattern | None, ReadAs(_regex, _TEXT | {"minLength": 1})]
OpName: TypeAlias = Annotated[str, ReadAs(_op, {"enum": list(OPS)})]
DepthRange: TypeAlias = Annotated[
    Depth | None,
    ReadAs(
        _depth,
        {"type": "array", "items": {"type": ["number", "null"]}, "minItems": 2, "maxItems": 2},
    ),
]
Between: TypeAlias = Annotated[
    tuple[Pattern, Pattern] | None,
    ReadAs(_between, {"type": "array", "items": _TEXT, "minItems": 2, "maxItems": 2}),
]
Positions: TypeAlias = Annotated[
    tuple[int, ...] | Span | None,
    ReadAs(
        _positions,
        {
            "anyOf": [
                _WHOLE,
                {"type": "array", "items": _WHOLE, "minItems": 1},
                {"type": "string", "pattern": "^(-?[0-9]+)?:(-?[0-9]+)?$"},
            ]
        },
    ),
]
Amount: TypeAlias = Annotated[
    int, ReadAs(_amount, {"anyOf": [{"const": True}, _WHOLE | {"minimum": 1}]})
]
