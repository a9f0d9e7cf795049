from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

pytest.importorskip("sklearn")

STUDY = """\
recipe:
  model: {reference: model.py, args: {width: 4}}
  data: {name: digits, channels: 3, workers: 0}
  train: {epochs: 1, batch_size: 512, device: cpu}
rules: [usf]
axes:
  - {name: each stage, unit: stage, within: {op: linear}}
"""

Command = Callable[..., Result]


def test_ablate_and_report(folder: Path, fxbio_command: Command) -> None:
    model = (folder / "model.py").read_text()
    (folder / "model.py").write_text(model.replace("nn.Linear(width, 2)", "nn.Linear(width, 10)"))
    (folder / "study.yaml").write_text(STUDY)
    plan = fxbio_command("ablate", "study.yaml", "--dry-run")
    assert plan.exit_code == 0, plan.output
    assert "axis     each stage: 1 cells; head x usf" in plan.stderr
    result = fxbio_command("ablate", "study.yaml")
    assert result.exit_code == 0, result.output
    assert "each stage" in result.stdout
    assert "[2/2] each-stage/head/usf seed 0: top1" in result.stderr
    again = fxbio_command("report", "studies/study", "--json")
    assert again.exit_code == 0, again.output
    assert [row["n"] for row in json.loads(again.stdout)] == [1, 1]


def test_a_mistake_in_a_study(folder: Path, fxbio_command: Command) -> None:
    (folder / "study.yaml").write_text(STUDY.replace("unit: stage", "unit: stages"))
    result = fxbio_command("ablate", "study.yaml")
    assert result.exit_code == 2
    assert "study.yaml:7:30" in result.stderr
