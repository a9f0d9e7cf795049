"""One thread, and tests that do not depend on each other's random numbers; for a ``conftest``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

__all__ = ["deterministic"]


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
