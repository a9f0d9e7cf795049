"""Learning rules: one file per family, each written as its paper writes it."""

from fxbio.rules import (  # noqa: F401  (registers)
    backprop,
    decoupled_greedy,
    direct_feedback,
    feedback_alignment,
    kolen_pollack,
    product_feedback,
    refreshed_copy,
    sign_symmetry,
    symmetric_alignment,
    target_propagation,
    two_routes,
    weight_mirror,
)
from fxbio.rules.base import Family, Rule, Transport, available_rules, find_rule, make_rule, rule
from fxbio.rules.weight_info import WeightInfo

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
