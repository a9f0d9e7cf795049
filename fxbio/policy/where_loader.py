"""``where:`` as it is written, into a ``Where``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fxbio.errors import PolicyError, did_you_mean
from fxbio.files.located_yaml import Node
from fxbio.globs import Pattern, glob_fault, regex_fault
from fxbio.policy.checks import as_list, as_mapping, as_number, as_text, as_texts, as_whole
from fxbio.policy.entries import Depth, Span, Where
from fxbio.policy.keys import ENTRY_KEYS, OPS, WHERE_KEYS

__all__ = ["check_glob", "load_where"]

_POSITIONAL = ("index", "first", "last")
_ELSEWHERE = {key: f"'{key}' belongs beside 'where', not in it" for key in ENTRY_KEYS}


def load_where(node: Node) -> Where:
    """A selector from its mapping or its short form.

    Raises:
        PolicyError: at the key or value that is wrong.
    """
    if isinstance(node.value, str):
        return _short_form(node, node.value)
    keys = as_mapping(node, "where", WHERE_KEYS, elsewhere=_ELSEWHERE)
    if not keys:
        raise PolicyError(
            "an empty 'where' selects nothing",
            location=node.location,
            help='select everything with: where: {module: "**"}',
        )
    counted = [key for key in keys if key in _POSITIONAL]
    if len(counted) > 1:
        raise PolicyError(
            f"'{counted[0]}' and '{counted[1]}' in one 'where'",
            location=keys[counted[1]].key,
            notes=["each counts among the weights that the other keys leave"],
            help=f"combine them: any: [{{{counted[0]}: …}}, {{{counted[1]}: …}}]",
        )
    fields = {_FIELDS[key][0]: _FIELDS[key][1](value) for key, value in keys.items()}
    return Where(**fields, location=node.location)


def _short_form(node: Node, text: str) -> Where:
    glob, separator, op = text.partition("::")
    module = (check_glob(glob, node),)
    ops = (_known_op(op, node),) if separator else ()
    return Where(module=module, op=ops, location=node.location)


def check_glob(text: str, node: Node) -> Pattern:
    """A glob, checked.

    Raises:
        PolicyError: at ``node``, for a malformed glob.
    """
    fault = glob_fault(text)
    if fault:
        raise PolicyError(
            f"malformed glob '{text}'",
            location=node.location,
            notes=[fault],
            help="* is within one segment of a path, ** is any number of segments",
        )
    return Pattern(text, location=node.location)


def _known_op(text: str, node: Node) -> str:
    if text not in OPS:
        guess = did_you_mean(text, OPS)
        raise PolicyError(
            f"unknown op '{text}'",
            location=node.location,
            notes=[*([guess] if guess else []), f"allowed: {', '.join(OPS)}"],
            help="list the sites and their ops with: fxbio inspect MODEL",
        )
    return text


def _globs(node: Node) -> tuple[Pattern, ...]:
    texts = as_texts(node, "module", WHERE_KEYS["module"].example)
    return tuple(check_glob(text, item) for text, item in texts)


def _regex(node: Node) -> Pattern:
    text = as_text(node, "regex", WHERE_KEYS["regex"].example)
    fault = regex_fault(text)
    if fault:
        raise PolicyError(
            f"malformed regular expression: {fault}",
            location=node.location,
            help="for paths with * and ** use module: instead",
        )
    return Pattern(text, "regex", node.location)


def _ops(node: Node) -> tuple[str, ...]:
    return tuple(_known_op(t, item) for t, item in as_texts(node, "op", WHERE_KEYS["op"].example))


def _types(node: Node) -> tuple[str, ...]:
    return tuple(text for text, _ in as_texts(node, "type", WHERE_KEYS["type"].example))


def _depth(node: Node) -> Depth:
    low, high = (
        None if item.value is None else as_number(item, "an end of depth", "depth: [null, 0.5]")
        for item in _pair(node, "depth")
    )
    ends = [end for end in (low, high) if end is not None]
    fraction = any(isinstance(end, float) for end in ends)
    fault = None
    if not ends:
        fault = "both ends are open"
    elif len(ends) == 2 and ends[0] > ends[1]:
        fault = "the range is empty"
    elif fraction and not all(0 <= end <= 1 for end in ends):
        fault = "fractions lie between 0.0 and 1.0"
    elif min(ends) < 0:
        fault = "layers count from 0"
    if fault:
        raise PolicyError(
            f"depth makes no sense: {fault}",
            location=node.location,
            notes=[WHERE_KEYS["depth"].description],
            help=f"write, for example: {WHERE_KEYS['depth'].example}",
        )
    if fraction:
        low, high = (None if end is None else float(end) for end in (low, high))
    return Depth(low, high, fraction)


def _between(node: Node) -> tuple[Pattern, Pattern]:
    example = WHERE_KEYS["between"].example
    ends = [(as_text(item, "an end of between", example), item) for item in _pair(node, "between")]
    first, second = (check_glob(text, item) for text, item in ends)
    return first, second


def _pair(node: Node, what: str) -> tuple[Node, Node]:
    example = WHERE_KEYS[what].example
    items = as_list(node, what, example)
    if len(items) != 2:
        raise PolicyError(
            f"{what} needs two ends, not {len(items)}",
            location=node.location,
            help=f"write, for example: {example}",
        )
    return items[0], items[1]


def _several(key: str) -> Callable[[Node], tuple[Where, ...]]:
    def load(node: Node) -> tuple[Where, ...]:
        return tuple(load_where(item) for item in as_list(node, key, WHERE_KEYS[key].example))

    return load


def _index(node: Node) -> tuple[int, ...] | Span:
    example = 'index: 0, or [0, -1], or "2:5"'
    if isinstance(node.value, str):
        span = re.fullmatch(r"(-?[0-9]{1,18})?:(-?[0-9]{1,18})?", node.value)
        if span is None:
            raise PolicyError(
                f"'{node.value}' is not a slice of positions",
                location=node.location,
                help=f"write, for example: {example}",
            )
        start, stop = (None if end is None else int(end) for end in span.groups())
        return Span(start, stop)
    items = as_list(node, "index", example) if isinstance(node.value, list) else [node]
    return tuple(as_whole(item, "index", example) for item in items)


def _amount(key: str) -> Callable[[Node], int]:
    def load(node: Node) -> int:
        if node.value is True:
            return 1
        return as_whole(node, key, f"{key}: true, or {key}: 3", minimum=1)

    return load


_FIELDS: Mapping[str, tuple[str, Callable[[Node], Any]]] = {
    "module": ("module", _globs),
    "regex": ("regex", _regex),
    "op": ("op", _ops),
    "type": ("type", _types),
    "depth": ("depth", _depth),
    "between": ("between", _between),
    "all": ("all_of", _several("all")),
    "any": ("any_of", _several("any")),
    "not": ("not_of", load_where),
    "index": ("index", _index),
    "first": ("first", _amount("first")),
    "last": ("last", _amount("last")),
}
"""Field of ``Where`` and loader of each key."""
