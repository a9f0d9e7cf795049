"""From the rule named in a custom op to the matrix that carries the error back.

The ops take a rule as its spec string, because a graph can hold strings and not Python objects:
that is what lets a rule survive export, re-tracing and pickling.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from fxbio.errors import RuleError
from fxbio.ops.activity import activity_gradient
from fxbio.rules.feedback_rule import FeedbackRule
from fxbio.rules.learning_rule import make_rule
from fxbio.rules.spec import parse_spec

__all__ = [
    "Watched",
    "feedback_gradient",
    "feedback_of",
    "parse_rule",
    "passes_error",
    "trains_weight",
    "wants_weight_gradient",
]


@cache
def parse_rule(spec: str) -> FeedbackRule:
    """The rule of a spec string such as ``usf{magnitude=xiao}``.

    Raises:
        RuleError: when the rule is not registered, as that of a plug-in not imported, or when it
            is of another family.
    """
    name, options = parse_spec(spec)
    rule = make_rule(name, options)
    if not isinstance(rule, FeedbackRule):
        raise RuleError(
            f"rule '{rule.name}' does not say what carries the error back across an operation",
            help="ops take rules of the asymmetric family: fxbio rules",
        )
    return rule


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # dynamo can follow neither YAML nor a registry
def passes_error(spec: str) -> bool:
    """True if any error passes a site under that rule, for use outside of an op."""
    return parse_rule(spec).passes_error


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # as above
def trains_weight(spec: str) -> bool:
    """True if the weight gets a gradient under that rule, for use outside of an op."""
    return parse_rule(spec).trains_weight


def feedback_of(weight: Tensor, drawn: Tensor | None, spec: str, dtype_of: Tensor) -> Tensor:
    """The feedback weight without its scale, in the dtype of the error that it will meet."""
    drawn = None if drawn is None else drawn.to(dtype_of.dtype)
    return parse_rule(spec).feedback(weight, drawn).to(dtype_of.dtype)


def wants_weight_gradient(spec: str, needs_weight: bool, needs_feedback: bool) -> bool:
    """True if an op has to compute the gradient of the weight."""
    return needs_weight or (needs_feedback and parse_rule(spec).tied)


class Watched(NamedTuple):
    """Input of a loss on activity: one application of a weight."""

    weight: Tensor
    inputs: Callable[[float], Tensor]
    """The inputs at a share of the positions: (groups, n, in)."""


def feedback_gradient(
    spec: str, feedback: Tensor, grad_weight: Tensor | None, watched: Watched | None = None
) -> Tensor:
    """The gradient of a feedback weight that learns: that of the weight, or of a loss on activity.

    Under a rule with neither it is zero: the parameter is seen to be in use, and a loss on weights
    is added where the parameter is kept.

    Args:
        spec: of the rule.
        feedback: the feedback weight.
        grad_weight: of the forward weight, which a rule that is ``tied`` needs.
        watched: in the ops that losses on activity can look at.
    """
    rule = parse_rule(spec)
    if rule.tied:
        assert grad_weight is not None
        return grad_weight.to(feedback.dtype, copy=True)  # a tensor may become one ``.grad`` only
    if watched is not None and (share := rule.watched_share()):
        return activity_gradient(rule, watched.inputs(share), watched.weight, feedback)
    return feedback.new_zeros(()).expand_as(feedback)
