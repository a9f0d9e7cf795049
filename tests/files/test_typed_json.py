"""Types of JSON values, by the dataclasses of runs, studies and plans."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fxbio.files.typed_json import from_json
from fxbio.study.history import LOSS, read_history
from fxbio.study.rows import Row, read_rows
from fxbio.train.output.run_folder import RunFolder
from fxbio.train.output.status import Status, read_status

ROW = asdict(Row("base", 0, "done", {"top1": 0.5}, 10, None, 1.0))


def test_a_value_comes_back_from_its_json() -> None:
    row = from_json(json.loads(json.dumps(ROW)), Row)
    assert row == Row("base", 0, "done", {"top1": 0.5}, 10, None, 1.0)


WRONG: list[dict[str, Any]] = [
    {"run": 5},
    {"run": None},
    {"seed": "x"},
    {"seed": 1.5},
    {"seed": True},
    {"seed": 10**400},
    {"state": "nope"},
    {"state": []},
    {"metrics": []},
    {"metrics": {"top1": "high"}},
    {"metrics": {"top1": 10**400}},
    {"step": {}},
    {"error": 1},
    {"unknown": 1},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_values_of_other_types_are_refused(change: dict[str, Any]) -> None:
    name = next(iter(change))
    with pytest.raises(ValueError, match=name):
        from_json(ROW | change, Row)


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_rows_of_other_types_count_as_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW | {"seed": 1} | change) + "\n")
    rows, broken = read_rows(path)
    assert (list(rows), broken) == ([("base", 0)], 1)


@pytest.mark.parametrize(
    "change", [{"state": 5}, {"step": "x"}, {"metrics": [1]}, {"process": 7}, {"best": {}}], ids=str
)
def test_a_status_of_other_types_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "status.json"
    path.write_text(json.dumps(asdict(Status("done"))))
    assert read_status(path) == Status("done")
    path.write_text(json.dumps(asdict(Status("done")) | change))
    assert read_status(path) is None


@pytest.mark.parametrize("line", ["[]", "null", "5", "{}", "[" * 100_000, "\udcff\udcfe", "{"])
@pytest.mark.parametrize("key", ["step", "epoch", "loss", "kind"])
def test_curves_leave_damaged_lines_out(tmp_path: Path, line: str, key: str) -> None:
    good = {"kind": "train", "step": 10, "epoch": 1.0, "loss": 2.0}
    lines = [line, json.dumps(good | {key: [None]}), json.dumps(good | {key: 10**400})]
    text = "\n".join([json.dumps(good), *lines, ""])
    (tmp_path / "metrics.jsonl").write_text(text, errors="surrogateescape")
    found = read_history(RunFolder(tmp_path), "top1")
    assert found[LOSS][0] == (1.0, 2.0)
    assert len(found[LOSS]) == (3 if key == "step" else 1)
