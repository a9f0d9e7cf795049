"""Many strings in two arrays.

Worker processes share memory with their parent only until somebody writes to it, and counting a
reference to a Python object writes. A list of a million file names is copied by every worker, an
array is not.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

__all__ = ["PackedStrings"]


class PackedStrings:
    """A read-only sequence of strings."""

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        start, end = self._ends[index], self._ends[index + 1]
        return self._bytes[start:end].tobytes().decode("utf-8", "surrogateescape")
