from __future__ import annotations

import pytest

from tests.passes.golden_graphs import CASES, FOLDER, text


@pytest.mark.parametrize("name", CASES)
def test_the_lowered_graph_reads_as_before(name: str) -> None:
    """Written anew by ``.venv/bin/python tests/passes/golden_graphs.py``."""
    assert text(name) == (FOLDER / f"{name}.txt").read_text()


def test_there_is_no_file_too_many() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(CASES)
