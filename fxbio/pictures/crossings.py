"""How the error crosses each site."""

from __future__ import annotations

from dataclasses import dataclass

from fxbio.pictures.carriers import ITSELF, carrier_of
from fxbio.pictures.error_flow import ErrorFlow

__all__ = ["Crossing", "crossings"]


@dataclass(frozen=True)
class Crossing:
    """What a site does with errors, under its rule and at its place."""

    carrier: str
    """What carries the error to the site, or from it to the one before."""
    used: bool
    """Whether the carrier is used at all; nothing learns below a first layer."""
    reached: bool
    """Whether an error arrives."""


def crossings(errors: ErrorFlow) -> dict[str, Crossing]:
    """By the name of the site."""
    nodes = {site.name: node for node, site in errors.sites.items()}
    sending = {node for node, _ in errors.passes}
    found: dict[str, Crossing] = {}
    for name, rule in errors.rules.items():
        node = nodes.get(name)
        receives = node in errors.receivers
        carrier = carrier_of(rule, receives=receives, at_output=node in errors.last)
        used = node in sending or receives or carrier == ITSELF
        found[name] = Crossing(carrier, used, node in errors.reached)
    return found
