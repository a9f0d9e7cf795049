"""Learning rules: one file per family, each written as its paper writes it."""

from fxbio.rules import backprop, feedback_alignment, sign_symmetry  # noqa: F401  (registers)
from fxbio.rules.base import Family, Rule, Transport, available_rules, find_rule, make_rule, rule
from fxbio.rules.fan import WeightInfo

__all__ = [
    "Family",
    "Rule",
    "Transport",
    "WeightInfo",
    "available_rules",
    "find_rule",
    "make_rule",
    "rule",
]
