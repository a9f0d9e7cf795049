"""How far apart colours are for eyes without one kind of cones."""

from __future__ import annotations

import math

__all__ = ["BLIND", "difference"]

BLIND = {
    "protan": ((0.11238, 0.88762, 0), (0.11238, 0.88762, 0), (0.00401, -0.00401, 1)),
    "deutan": ((0.29275, 0.70725, 0), (0.29275, 0.70725, 0), (-0.02234, 0.02234, 1)),
}
"""Of linear RGB, after Viénot, Brettel and Mollon 1999."""


def difference(one: str, other: str, kind: str) -> float:
    """From 0 for the same up to √3 between black and white."""
    return math.dist(_seen(one, kind), _seen(other, kind))


def _seen(colour: str, kind: str) -> list[float]:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    rgb = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    seen = (sum(m * c for m, c in zip(row, rgb, strict=True)) for row in BLIND[kind])
    return [max(0.0, part) ** (1 / 2.2) for part in seen]
