"""Strict reading of single values: each function returns the value or raises at its place."""

from __future__ import annotations

from collections.abc import Mapping

from fxbio.errors import PolicyError, did_you_mean
from fxbio.files.located_yaml import Node
from fxbio.policy.keys import Key

__all__ = ["as_flag", "as_list", "as_mapping", "as_number", "as_text", "as_texts", "as_whole"]


def as_mapping(
    node: Node,
    what: str,
    keys: Mapping[str, Key],
    *,
    required: tuple[str, ...] = (),
    elsewhere: Mapping[str, str] | None = None,
) -> dict[str, Node]:
    """A mapping that has the required keys, and no others than ``keys``.

    Args:
        node: the value.
        what: what it is, for messages.
        keys: the allowed keys.
        required: those that must be there.
        elsewhere: keys that are at home in another place, with a note that says where.
    """
    if not isinstance(node.value, dict):
        raise _wrong(node, what, "a mapping", next(iter(keys.values())).example)
    for key, value in node.value.items():
        if key not in keys:
            raise _unknown_key(key, value, what, keys, elsewhere or {})
    for key in required:
        if key not in node.value:
            raise PolicyError(
                f"{what} has no '{key}'",
                location=node.location,
                notes=[keys[key].description],
                help=f"write, for example: {keys[key].example}",
            )
    return node.value


def _unknown_key(
    key: str, value: Node, what: str, keys: Mapping[str, Key], elsewhere: Mapping[str, str]
) -> PolicyError:
    guess = did_you_mean(key, keys)
    hint = elsewhere.get(key, guess)
    return PolicyError(
        f"unknown key '{key}' in {what}",
        location=value.key,
        notes=[*([hint] if hint else []), f"allowed: {', '.join(keys)}"],
    )


def as_text(node: Node, what: str, example: str) -> str:
    """A non-empty string."""
    if not isinstance(node.value, str) or not node.value:
        raise _wrong(node, what, "a text", example)
    return node.value


def as_flag(node: Node, what: str, example: str) -> bool:
    """``true`` or ``false``."""
    if not isinstance(node.value, bool):
        raise _wrong(node, what, "true or false", example)
    return node.value


def as_whole(node: Node, what: str, example: str, minimum: int | None = None) -> int:
    """A whole number, not below ``minimum``."""
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(node, what, "a whole number", example)
    if minimum is not None and value < minimum:
        raise _wrong(node, what, f"at least {minimum}", example)
    return value


def as_number(node: Node, what: str, example: str) -> int | float:
    """A number, in the type in which it is written."""
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        raise _wrong(node, what, "a number", example)
    return node.value


def as_list(node: Node, what: str, example: str) -> list[Node]:
    """A non-empty list."""
    if not isinstance(node.value, list) or not node.value:
        raise _wrong(node, what, "a list of at least one", example)
    return node.value


def as_texts(node: Node, what: str, example: str) -> list[tuple[str, Node]]:
    """One text or a list of them, each with its node."""
    items = as_list(node, what, example) if isinstance(node.value, list) else [node]
    return [(as_text(item, what, example), item) for item in items]


def _wrong(node: Node, what: str, expected: str, example: str) -> PolicyError:
    return PolicyError(
        f"{what} must be {expected}, not {_kind(node)}",
        location=node.location,
        help=f"write, for example: {example}",
    )


def _kind(node: Node) -> str:
    value = node.value
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text '{value}'" if value else "an empty text"
    return "nothing" if value is None else str(value)
