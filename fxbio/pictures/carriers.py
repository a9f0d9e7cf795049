"""What carries the error across a site, in a few words."""

from __future__ import annotations

from fxbio.rules import Rule
from fxbio.rules.base import Transport
from fxbio.rules.broadcast import BroadcastRule
from fxbio.rules.target_propagation import TargetRule

__all__ = ["ITSELF", "carrier_of", "transport_of"]

ITSELF = "error itself"
"""Of a layer whose error the loss gives it without any weight between."""

_EXACT = "W"
_CARRIERS = {"weights": _EXACT, "signs": "sign W", "copies": "copy of W", "none": "B drawn"}


def carrier_of(rule: Rule, *, receives: bool, at_output: bool) -> str:
    """What carries the error to a site, or from it to the one before.

    Args:
        rule: of the site.
        receives: whether the error of the site comes from elsewhere than from its readers.
        at_output: whether no other weight is applied between the site and the output.
    """
    if isinstance(rule, BroadcastRule):
        return _routed(rule) if receives else ITSELF if at_output else _EXACT
    if isinstance(rule, TargetRule):
        return _EXACT if at_output and rule.top == "bp" else "inverse g"
    if not rule.passes_error:
        return "nothing"
    return "B learned" if rule.learns else _CARRIERS[rule.transports]


def _routed(rule: BroadcastRule) -> str:
    if rule.family == "local":
        return "local classifier"
    return "B · labels" if rule.sends_targets else "B · output error"


def transport_of(rule: Rule, carrier: str) -> Transport:
    """What is read of the forward weight where a rule has this carrier."""
    return "weights" if carrier == _EXACT else rule.transports
