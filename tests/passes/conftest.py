from __future__ import annotations

import pytest

from fxbio.passes import registry


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten afterwards."""
    monkeypatch.setattr(registry, "_PASSES", dict(registry._PASSES))
