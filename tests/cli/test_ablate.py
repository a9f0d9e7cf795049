from __future__ import annotations

import json
import signal
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


SIGNALLED = """
        training = any(f.filename.endswith("engine/loop.py") for f in traceback.extract_stack())
        if training and self.training and not os.path.exists("signalled"):
            open("signalled", "w").close()
            os.kill({process}, {signal})
        return"""


@pytest.fixture
def model(folder: Path) -> str:
    """Text of a model.py for digits, and a study of it."""
    (folder / "study.yaml").write_text(STUDY)
    text = (folder / "model.py").read_text()
    text = text.replace("nn.Linear(width, 2)", "nn.Linear(width, 10)")
    text = "import os, signal, traceback\n" + text
    (folder / "model.py").write_text(text)
    return text


def test_ablate_and_report(model: str, fxbio_command: Command) -> None:
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


@pytest.mark.parametrize(
    ("number", "code", "jobs", "process"),
    [
        (signal.SIGINT, 130, 1, "os.getpid()"),
        (signal.SIGTERM, 143, 1, "os.getpid()"),
        pytest.param(signal.SIGINT, 130, 2, "os.getppid()", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, 2, "os.getpid()", marks=pytest.mark.slow),
    ],
    ids=["ctrl-c", "sigterm", "ctrl-c while others train", "sigterm of one that trains"],
)
def test_a_study_that_is_stopped(
    model: str,
    folder: Path,
    fxbio_command: Command,
    number: int,
    code: int,
    jobs: int,
    process: str,
) -> None:
    signalled = SIGNALLED.format(process=process, signal=int(number))
    (folder / "model.py").write_text(model.replace("\n        return", signalled, 1))
    stopped = fxbio_command("ablate", "study.yaml", "--jobs", jobs)
    assert stopped.exit_code == code, stopped.output
    assert "error: the study was stopped; what was being trained is saved" in stopped.stderr
    again = fxbio_command("ablate", "study.yaml", "--jobs", jobs)
    assert again.exit_code == 0, again.output
    if process == "os.getpid()":  # the others may have come to their end meanwhile
        logs = [path.read_text() for path in folder.glob("studies/study/cells/**/log.txt")]
        assert any("continuing at step 1" in log for log in logs)
    results = fxbio_command("report", "studies/study", "--json")
    assert [row["n"] for row in json.loads(results.stdout)] == [1, 1]


def test_a_mistake_in_a_study(folder: Path, fxbio_command: Command) -> None:
    (folder / "study.yaml").write_text(STUDY.replace("unit: stage", "unit: stages"))
    result = fxbio_command("ablate", "study.yaml")
    assert result.exit_code == 2
    assert "study.yaml:7:30" in result.stderr
