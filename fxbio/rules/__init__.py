"""Learning rules: one file per family, each written as its paper writes it."""

from fxbio.rules import (  # noqa: F401  (registers)
    aligned_feedback,
    backprop,
    decoupled_greedy,
    direct_feedback,
    feedback_alignment,
    kolen_pollack,
    product_feedback,
    refreshed_copy,
    sign_symmetry,
    target_propagation,
    weight_mirror,
)
from fxbio.rules.broadcast_rule import BroadcastRule
from fxbio.rules.feedback_rule import FeedbackRule
from fxbio.rules.learning_rule import (
    Family,
    Rule,
    Transport,
    available_rules,
    find_rule,
    make_rule,
    rule,
)
from fxbio.rules.local_rule import LocalRule
from fxbio.rules.target_propagation import TargetRule
from fxbio.rules.weight_info import WeightInfo

__all__ = [
    "BroadcastRule",
    "Family",
    "FeedbackRule",
    "LocalRule",
    "Rule",
    "TargetRule",
    "Transport",
    "WeightInfo",
    "available_rules",
    "find_rule",
    "make_rule",
    "rule",
]
