from __future__ import annotations

from tests.determinism import deterministic

__all__ = ["deterministic"]
