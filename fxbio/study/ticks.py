"""Round numbers for an axis."""

from __future__ import annotations

import math
from itertools import count

__all__ = ["ticks"]


def ticks(low: float, high: float, most: int = 9) -> list[float]:
    """The multiples of 1, 2 or 5 times a power of ten inside a range: at most so many."""
    first = math.floor(math.log10((high - low) / most))
    steps = (10.0 ** (first + k) * m for k in count() for m in (1, 2, 5))
    step = next(s for s in steps if math.floor(high / s) - math.ceil(low / s) < most)
    return [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
