"""Crossings of errors at sites, and the carrier of each, in a few words."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.rules import FeedbackRule, LocalRule, Rule, TargetRule
from fxbio.rules.learning_rule import Transport
from fxbio.rules.routed_rule import RoutedRule
from fxbio.viz.error_flow import ErrorFlow

__all__ = ["Crossing", "carrier_of", "crossings", "transport_of"]

_EXACT, _THEN_EXACT = "W", ", then W"
_CARRIERS = {"weights": _EXACT, "signs": "sign W", "copies": "copy of W", "none": "B drawn"}


@dataclass(frozen=True)
class Crossing:
    """Effect of a site on errors, under its rule and at its place."""

    carrier: str
    """What carries the error to the site, or from it to the one before."""
    used: bool
    """False for layers that send no error and get theirs from their readers, as a first layer."""
    reached: bool
    """Whether an error arrives."""
    followed: bool = True
    """False where the site is used in a way that the dataflow does not show, as behind a write into
    a tensor; what is said of it is then what its rule would have it do."""


def crossings(errors: ErrorFlow) -> dict[str, Crossing]:
    """By the name of the site."""
    nodes = {site.name: node for node, site in errors.sites.items()}
    sending = {node for node, _ in errors.passes}
    found: dict[str, Crossing] = {}
    for site in errors.graph.sites:
        name, node = site.name, nodes.get(site.name)
        rule = errors.rules[name]
        if node is None:
            carrier = carrier_of(rule, receives=True, sends=False, at_output=False)
            found[name] = Crossing(carrier, bool(site.calls), bool(site.calls), not site.calls)
            continue
        carrier = carrier_of(
            rule,
            receives=node in errors.routed,
            sends=node in sending,
            at_output=node in errors.last,
        )
        used = node in sending or isinstance(rule, RoutedRule)
        found[name] = Crossing(carrier, used, node in errors.reached)
    return found


def carrier_of(rule: Rule, *, receives: bool, sends: bool, at_output: bool) -> str:
    """Carrier of the error to a site, or from it to the one before.

    Args:
        rule: of the site.
        receives: whether the error of the site comes from elsewhere than from its readers.
        sends: whether the site sends an error on.
        at_output: whether no other weight is applied between the site and the output.
    """
    if isinstance(rule, RoutedRule):
        if receives:
            return _routed(rule, goes_on=sends and rule.at != "input")
        return _EXACT if sends or not at_output else "error itself"
    if isinstance(rule, TargetRule):
        return _EXACT if at_output and rule.top == "bp" else "inverse g"
    if isinstance(rule, FeedbackRule) and not rule.passes_error:
        return "nothing"
    learns = isinstance(rule, FeedbackRule) and rule.learns
    return "B learned" if learns else _CARRIERS[rule.transports]


def _routed(rule: RoutedRule, *, goes_on: bool) -> str:
    """A layer that is not cut off from those before it sends them what backprop would."""
    if isinstance(rule, LocalRule):
        return f"classifier{_THEN_EXACT}" if goes_on else "local classifier"
    what = "labels" if rule.needs_labels else "output error"
    return f"B{_THEN_EXACT}" if goes_on else f"B · {what}"


def transport_of(rule: Rule, carrier: str) -> Transport:
    """Part of the forward weight that is read where a rule has this carrier."""
    exact = carrier == _EXACT or carrier.endswith(_THEN_EXACT)
    return "weights" if exact else rule.transports
