"""Settings from the command line: ``optim.lr=0.2``."""

from __future__ import annotations

from dataclasses import replace

from fxbio.errors import ConfigError, Location
from fxbio.files.located_yaml import Node, parse

__all__ = ["override"]

ARGUMENT = "argument"
"""What stands for the file name in the places of overrides."""

_DEEPEST = 20


def override(root: Node, argument: str) -> Node:
    """A recipe with one value replaced; the value is read as YAML.

    Raises:
        ConfigError: when the argument is not ``key.key=value``, or goes through a value that is
            no mapping.
    """
    path, equals, _ = argument.partition("=")
    if not equals or not all(path.split(".")) or path.count(".") > _DEEPEST:
        raise ConfigError(
            f"cannot read the argument '{argument}'",
            location=Location(ARGUMENT, 1, 1, argument, len(argument)),
            help="write section.key=value, for example optim.lr=0.2",
        )
    return _set(root, path.split("."), _value(argument, len(path) + 1), argument, 0)


def _set(node: Node, keys: list[str], value: Node, argument: str, start: int) -> Node:
    key, rest = keys[0], keys[1:]
    place = Location(ARGUMENT, 1, start + 1, argument, len(key))
    children = {} if node.value is None else node.value
    if not isinstance(children, dict):
        above = argument[: start - 1]
        raise ConfigError(f"'{above}' has nothing below it to set", location=place)
    if rest:
        child = children.get(key, Node(None, place, place, ConfigError))
        changed = _set(child, rest, value, argument, start + len(key) + 1)
    else:
        changed = replace(value, key=place)
    return replace(node, value={**children, key: changed})


def _value(argument: str, start: int) -> Node:
    # The blanks keep the columns; a leading blank changes nothing in YAML.
    padded = " " * start + argument[start:]
    return parse(padded, ARGUMENT, "the value", ConfigError, shown=argument)
