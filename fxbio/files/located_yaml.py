"""YAML with positions: every key and value knows the line and column it was written at."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from fxbio.errors import FxbioError, Location, PolicyError
from fxbio.files.yaml_scalars import SCALARS, TAG, Scalar, read_scalar

__all__ = ["Node", "from_plain", "parse"]

_DEEPEST = 100
_MOST_VALUES = 50_000
"""Of a document with its aliases spelled out: nested ones would otherwise fill any memory."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_INTEGERS = range(-(2**63), 2**64)
"""What torch takes for a number or for a seed."""


@dataclass(frozen=True)
class Node:
    """A value and its place; places are ``None`` for values from Python."""

    value: Scalar | list[Node] | dict[str, Node]
    location: Location | None = None
    key: Location | None = None
    """Place of the key that the value stands under."""
    error: type[FxbioError] = PolicyError
    """Class of the errors about the file."""

    @property
    def folder(self) -> Path:
        """Of the file that it stands in; relative to the working directory, or that itself."""
        return Path(self.location.file).parent if self.location else Path()

    @property
    def below(self) -> dict[str, Node]:
        """The values of a mapping by their keys; nothing for all else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The values of a list; one value stands for the list of it."""
        return self.value if isinstance(self.value, list) else [self]

    def fault(
        self, headline: str, *, notes: Iterable[str] = (), help: str | None = None
    ) -> FxbioError:
        """An error about the value, to be raised."""
        return self.error(headline, location=self.location, notes=notes, help=help)

    @property
    def at_key(self) -> Node:
        """The same with the place of its key."""
        return replace(self, location=self.key)

    def same_fault(self, error: FxbioError) -> FxbioError:
        """An error of something that was made of the value, at its place."""
        return error.recast(self.error, self.location)

    def plain(self) -> Any:
        """The value without positions."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


class _Loader(yaml.SafeLoader):
    """Scalars by YAML 1.2; the resolvers are filled in below."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML declares it on the instance)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.count = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As in PyYAML, up to bounds: it calls itself for every level."""
        self.count += 1
        if self.depth >= _DEEPEST:
            raise self._refusal(f"it is nested more than {_DEEPEST} levels deep")
        if self.count > _MOST_VALUES:
            raise self._refusal(f"it has more than {_MOST_VALUES:,} values")
        self.depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def _refusal(self, problem: str) -> yaml.MarkedYAMLError:
        return yaml.MarkedYAMLError(problem=problem, problem_mark=self.get_mark())


for _tag, _type in SCALARS.items():
    # PyYAML keeps the resolvers of the empty scalar, which is null, under "".
    for _first in (*_type.first, *([""] if _type.regex.match("") else [])):
        _Loader.yaml_implicit_resolvers.setdefault(_first, []).append((_tag, _type.regex))

_TAGS: Mapping[type[yaml.Node], Collection[str]] = {
    yaml.ScalarNode: (*SCALARS, TAG + "str"),
    yaml.SequenceNode: (TAG + "seq",),
    yaml.MappingNode: (TAG + "map",),
}


def parse(
    text: str,
    file: str,
    what: str = "the policy",
    error: type[FxbioError] = PolicyError,
    *,
    shown: str | None = None,
) -> Node:
    """Parse one YAML document.

    Args:
        text: the document.
        file: name that the positions carry.
        what: what the document is, for messages.
        error: class of the errors about it.
        shown: what errors show in the place of ``text``, with the same lines and columns.

    Returns:
        The root value; an empty document is ``None``.

    Raises:
        FxbioError: of that class, for anything that is not YAML, a duplicate key, a key that is not
            a word, a custom tag, or a list that contains itself.
    """
    lines = (text if shown is None else shown).split("\n")
    reader = _Reader(file, lines, what, error)
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as cause:
        raise reader.syntax_error(cause) from cause
    except (yaml.YAMLError, ValueError) as cause:  # PyYAML lets that of chr() out: "\UFFFFFFFF"
        raise error(f"{what} is not YAML: {cause}") from cause
    if root is None:
        return Node(None, reader.place(0, 0, 1), error=error)
    return reader.read(root)


def from_plain(value: object, error: type[FxbioError] = PolicyError) -> Node:
    """Python values as nodes without positions, so that one loader checks both.

    Raises:
        FxbioError: of the class ``error``, for a value that YAML could not hold.
    """
    if isinstance(value, Mapping):
        below = {str(key): from_plain(item, error) for key, item in value.items()}
        return Node(below, error=error)
    if isinstance(value, str | int | float | bool) or value is None:
        fault = _number_fault(value)
        if fault:
            raise error(fault)
        return Node(value, error=error)
    if isinstance(value, Sequence):
        return Node([from_plain(item, error) for item in value], error=error)
    raise error(f"YAML cannot hold a {type(value).__name__}: {value!r}")


def _number_fault(value: Scalar) -> str | None:
    """Reason why a number cannot be used anywhere, or ``None``."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"the number {value} is not finite"
    if isinstance(value, int) and value not in _INTEGERS:
        return "a whole number does not fit into 64 bits"
    return None


def _text_fault(value: Scalar) -> str | None:
    """Names end in files, pages and terminals, none of which can show such characters."""
    odd = _CONTROL.search(value) if isinstance(value, str) else None
    return f"a text holds the control character {odd[0]!r}" if odd else None


class _Reader:
    """Turns composed YAML nodes into ours."""

    def __init__(self, file: str, lines: list[str], what: str, error: type[FxbioError]) -> None:
        self.file = file
        self.what = what
        self.error = error
        self.lines = lines
        self.done: dict[int, tuple[Node, int] | None] = {}
        self.count = 0

    def place(self, line: int, column: int, length: int) -> Location:
        text = self.lines[line].rstrip("\r") if line < len(self.lines) else ""
        return Location(self.file, line + 1, column + 1, text, max(1, length))

    def syntax_error(self, error: yaml.MarkedYAMLError) -> FxbioError:
        mark = error.problem_mark or error.context_mark
        return self.error(
            f"{self.what} is not YAML: {error.problem or error.context}",
            location=self.place(mark.line, mark.column, 1) if mark else None,
            notes=[error.context] if error.context and error.problem else [],
            help="quote texts that contain ': ' or '#', or that start with '*', '&', '!' or '@'",
        )

    def location(self, node: yaml.Node) -> Location:
        start, end = node.start_mark, node.end_mark
        if end.line == start.line:
            return self.place(start.line, start.column, end.column - start.column)
        text = self.lines[start.line].rstrip()
        return self.place(start.line, start.column, len(text) - start.column)

    def read(self, node: yaml.Node) -> Node:
        # An alias is the same node again: read once, and never inside itself.
        if id(node) in self.done:
            known = self.done[id(node)]
            if known is None:
                raise self.error("a value contains itself", location=self.location(node))
            self._add(known[1], node)
            return known[0]
        self.done[id(node)] = None
        before = self.count
        self._add(1, node)
        result = Node(self._value(node), self.location(node), error=self.error)
        self.done[id(node)] = (result, self.count - before)
        return result

    def _add(self, values: int, node: yaml.Node) -> None:
        self.count += values
        if self.count > _MOST_VALUES:
            raise self.error(
                f"with its aliases spelled out {self.what} has more than {_MOST_VALUES:,} values",
                location=self.location(node),
                help="write the values once, without '*'",
            )

    def _value(self, node: yaml.Node) -> Scalar | list[Node] | dict[str, Node]:
        if node.tag not in _TAGS[type(node)]:
            raise self.error(f"unknown tag '{node.tag}'", location=self.location(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item) for item in node.value]
        try:
            value = read_scalar(node.tag, node.value)
            fault = _number_fault(value) or _text_fault(value)
        except ValueError as error:  # an explicit tag on something else
            raise self.error(str(error), location=self.location(node)) from error
        if fault:
            raise self.error(fault, location=self.location(node))
        return value

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Node]:
        result: dict[str, Node] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key in result:
                first = result[key].key
                raise self.error(
                    f"'{key}' stands here twice",
                    location=self.location(key_node),
                    notes=[f"the first is at {first}"],
                    help="keep one of the two",
                )
            result[key] = replace(self.read(value_node), key=self.location(key_node))
        return result

    def _key(self, node: yaml.Node) -> str:
        if isinstance(node, yaml.ScalarNode) and node.tag == TAG + "str":
            return str(node.value)
        raise self.error(
            "a key must be a word",
            location=self.location(node),
            help="quote it if it is meant as a text",
        )
