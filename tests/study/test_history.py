"""What runs wrote down over the epochs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fxbio.study.history import GRADIENT_ANGLE, LOSS, WEIGHT_ANGLE, read_history
from fxbio.train.output.run_folder import RunFolder
from tests.study.results import aligned, write_lines, write_run


def test_what_a_run_wrote_down(tmp_path: Path) -> None:
    write_run(tmp_path / "run", epochs=2, steps=2, alignment=False)
    with (tmp_path / "run/metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "train", "step": 5, "epoch": 2.5, "loss": NaN}\n{"kind": "tr')
    history = read_history(RunFolder(tmp_path / "run"), "top1")
    assert history == {
        "top1": [(1, 0.5), (2, 1.0)],
        LOSS: [(0.5, 10.5), (1, 11), (1.5, 11.5), (2, 12)],
    }


def test_angles_are_those_of_weights_that_a_rule_turns(tmp_path: Path) -> None:
    write_run(tmp_path / "run", epochs=2, steps=2, alignment=False)
    lines = [
        aligned(0, "one", 80),
        aligned(0, "two", 60),
        aligned(0, "backprop", 0.0),
        aligned(0, "broadcast", None),
        aligned(4, "one", 40),
        aligned(4, "two", 20, valid=False),
        aligned(4, "backprop", 0.0),
    ]
    write_lines(tmp_path / "run/alignment.jsonl", lines)
    history = read_history(RunFolder(tmp_path / "run"), "top1")
    assert history[WEIGHT_ANGLE] == [(0, 70), (2, 30)]
    assert dict(history[GRADIENT_ANGLE]) == pytest.approx({0: 70, 2: 40})


def test_nothing_of_a_run_that_has_not_begun(tmp_path: Path) -> None:
    assert read_history(RunFolder(tmp_path / "run"), "top1") == {}
