"""How the error crosses each site."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.rules.routed_rule import RoutedRule
from fxbio.viz.carriers import carrier_of
from fxbio.viz.error_flow import ErrorFlow

__all__ = ["Crossing", "crossings"]


@dataclass(frozen=True)
class Crossing:
    """What a site does with errors, under its rule and at its place."""

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
