"""The keys of the policy language: what each means, and how it is written.

The loader quotes the examples in its errors; the JSON Schema carries the descriptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from fxbio.site import OpKind

__all__ = [
    "DEFAULT_KEYS",
    "ENTRY_KEYS",
    "EXPECT_KEYS",
    "OPS",
    "POLICY_KEYS",
    "WHERE_KEYS",
    "Key",
]


@dataclass(frozen=True)
class Key:
    """One key of the language."""

    description: str
    example: str


OPS: Mapping[str, frozenset[str]] = {
    **{kind: frozenset({kind}) for kind in get_args(OpKind)},
    "conv": frozenset({"conv1d", "conv2d", "conv3d"}),
    "conv_transpose": frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}),
    # Which sites lie inside attention is known to the site, not to its op.
    "attention": frozenset(),
}
"""Names of operations in a policy, and the kinds of site that each stands for."""

POLICY_KEYS: Mapping[str, Key] = {
    "version": Key("Version of the policy language.", "version: 1"),
    "default": Key(
        "The rule of every site that no entry matches; normalisation scales and embeddings "
        "keep bp.",
        "default: bp",
    ),
    "seed": Key("Seed of all random feedback; drawn from (seed, name of the weight).", "seed: 0"),
    "persist_feedback": Key(
        "Whether fixed feedback is stored in the state_dict.", "persist_feedback: true"
    ),
    "allow_backprop": Key(
        "Globs on weights that may be used where no rule can be installed.",
        'allow_backprop: ["head.custom.**"]',
    ),
    "rules": Key(
        "Ordered entries; the last one that matches a site decides, nothing merges.",
        "rules: [{where: {last: true}, rule: bp}]",
    ),
}

DEFAULT_KEYS: Mapping[str, Key] = {
    "rule": Key("Name of the rule.", "rule: usf"),
    "with": Key("Options of the rule.", "with: {magnitude: xiao}"),
}

ENTRY_KEYS: Mapping[str, Key] = {
    "name": Key("A name for tables and messages.", "name: backbone"),
    "where": Key(
        'The sites it is about; all keys must hold. Short form: "glob::op".',
        'where: {module: "backbone.**", op: conv}',
    ),
    **DEFAULT_KEYS,
    "expect": Key(
        "How many weights it must match; checked before anything changes.", "expect: {count: 53}"
    ),
    "allow_unmatched": Key("Whether it may match nothing.", "allow_unmatched: true"),
    "on_unsupported": Key(
        "What to do where the rule cannot be installed: error, or keep bp.", "on_unsupported: bp"
    ),
}

EXPECT_KEYS: Mapping[str, Key] = {
    "count": Key("Exactly so many weights.", "expect: {count: 53}"),
    "min": Key("At least so many weights.", "expect: {min: 1}"),
    "max": Key("At most so many weights.", "expect: {max: 20}"),
}

WHERE_KEYS: Mapping[str, Key] = {
    "module": Key(
        "Globs on the path of the module that holds the weight: * is within one "
        "segment, ** is any number of segments.",
        'module: "backbone.**"',
    ),
    "regex": Key(
        "Regular expression that the whole module path matches.", r"regex: 'layer[34]\..*'"
    ),
    "op": Key(
        "Kinds of operation. Normalisation scales and embeddings are matched only where norm "
        "or embedding is named.",
        "op: [conv, linear]",
    ),
    "type": Key("Class name of the module, globs allowed.", "type: Conv2d"),
    "depth": Key(
        "Inclusive range. Whole numbers count layers from the input; with a decimal "
        "point at either end both are fractions of the model's depth: [0, 1] is two "
        "layers, [0.0, 1.0] the whole model. An open end is null.",
        "depth: [0.5, 1.0]",
    ),
    "between": Key(
        "Two globs: sites on a dataflow path from the first to the second, inclusive.",
        "between: [backbone.layer1.**, backbone.layer3.**]",
    ),
    "any": Key("Selectors of which one holds.", "any: [{first: true}, {last: true}]"),
    "all": Key("Selectors that all hold.", "all: [{first: 5}, {not: {op: linear}}]"),
    "not": Key("A selector that does not hold.", "not: {last: true}"),
    "index": Key(
        "Position among the weights that the other keys leave, in order of first use: a "
        "number (negative from the end), a list, or a slice 'a:b'.",
        "index: -1",
    ),
    "first": Key("The first weight, or the first N, that the other keys leave.", "first: true"),
    "last": Key("The last weight, or the last N, that the other keys leave.", "last: true"),
}
