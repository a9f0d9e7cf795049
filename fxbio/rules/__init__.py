"""Learning rules: one file per family, each written as its paper writes it."""

from fxbio.rules import (  # noqa: F401  (registers)
    backprop,
    direct_feedback,
    feedback_alignment,
    greedy,
    sign_symmetry,
    target_propagation,
)
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
