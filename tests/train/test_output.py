from __future__ import annotations

import io
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fxbio.errors import ConfigError, DataError, FxbioError, TrainError
from fxbio.train.engine.friendly_errors import LostProcess, explain
from fxbio.train.output import progress as view
from fxbio.train.output.environment import environment
from fxbio.train.output.listing import list_runs
from fxbio.train.output.metrics import MetricsFile
from fxbio.train.output.process import this_process
from fxbio.train.output.progress import LineView, LiveView, StepReport, duration
from fxbio.train.output.run_folder import RunFolder
from fxbio.train.output.status import State, Status, exit_code, read_status, write_status
from fxbio.train.output.tail import keep_lines

REPORT = StepReport(7, 0.5, 1.25, 0.1, 512.0, 0.03, 3723.0)


def test_a_pipe_gets_a_line_now_and_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = LineView(100, tmp_path / "log.txt")
    for _ in range(50):
        lines.step(REPORT)
    monkeypatch.setattr(view, "SECONDS", 0.0)
    lines.step(REPORT)
    lines.say("done")
    lines.close()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    parts = "step 7/100  epoch 0.50  loss 1.2500  eta 1:02:03  lr 0.1  512 img/s  data 3%"
    assert said[0].startswith(parts)
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 3


def test_a_terminal_gets_a_bar_and_the_log_its_lines(tmp_path: Path) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    live = LiveView(100, tmp_path / "log.txt", console)
    live.step(REPORT)
    live.evaluating(3, 9)
    live.say("epoch 1: top1 0.5")
    live.close()
    assert "epoch 1: top1 0.5" in stream.getvalue()
    log = (tmp_path / "log.txt").read_text()
    assert "step 7/100" in log
    assert "top1 0.5" in log


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (65, "1:05"), (3600, "1:00:00")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("torn", ["", '{"kind": "tra', '{"kind": "train", "step": 1}'])
def test_lines_go_on_after_those_that_are_kept(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path)
    for step in (1, 2, 3):
        first.write("train", step, {"loss": 1 / step})
    first.close()
    with path.open("a") as file:
        file.write(torn)
    keep_lines(path, lambda line: line["step"] <= 2)
    second = MetricsFile(path, step=2)
    second.write("eval", 2, {"loss": 0.25})
    second.close()
    assert path.read_text().splitlines() == [
        '{"kind": "train", "step": 1, "loss": 1.0}',
        '{"kind": "train", "step": 2, "loss": 0.5}',
        '{"kind": "eval", "step": 2, "loss": 0.25}',
    ]


def test_lines_that_were_never_written_are_no_error(tmp_path: Path) -> None:
    keep_lines(tmp_path / "none.jsonl", lambda line: True)
    assert not list(tmp_path.iterdir())


def test_a_status_reads_back(tmp_path: Path) -> None:
    status = Status("done", 3, 9, 1, "checkpoints/a.pt", {"top1": 0.5}, 0.5, None, 0)
    write_status(tmp_path / "status.json", status)
    assert read_status(tmp_path / "status.json") == status
    assert read_status(tmp_path / "none.json") is None
    (tmp_path / "status.json").write_text("[]")
    assert read_status(tmp_path / "status.json") is None


@pytest.mark.parametrize(
    ("state", "signal", "code"),
    [
        ("done", None, 0),
        ("failed", None, 1),
        ("diverged", None, 1),
        ("preempted", 15, 143),
        ("preempted", 2, 130),
        ("preempted", None, 143),
    ],
)
def test_exit_codes(state: str, signal: int | None, code: int) -> None:
    assert exit_code(state, signal) == code  # type: ignore[arg-type]


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "deep/new")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        write_status(folder / "status.json", Status("done", step=number))
        then = time.time() - 7200 * (2 - number)
        os.utime(folder / "status.json", (then, then))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "status.json").write_text("{")
    listed = list_runs(tmp_path)
    assert [(run.name, run.age) for run in listed] == [("deep/new", "2 h"), ("old", "4 h")]


@pytest.mark.parametrize(
    ("state", "change", "shown"),
    [
        ("running", {}, "running"),
        ("running", {"pid": 2**22 + 1}, "killed"),  # above the largest that Linux gives
        ("running", {"started": "0"}, "killed"),
        ("running", {"host": "node7"}, "running on node7"),
        ("running", {"host": "node7", "pid": 2**22 + 1}, "running on node7"),
        ("running", {"numbers": "pid:[1]", "pid": 2**22 + 1}, f"running on {platform.node()}"),
        ("done", {"pid": 2**22 + 1}, "done"),
    ],
)
def test_a_run_whose_process_is_gone_was_killed(
    tmp_path: Path, state: State, change: dict[str, Any], shown: str
) -> None:
    write_status(tmp_path / "status.json", Status(state, process={**this_process(), **change}))
    assert [run.state for run in list_runs(tmp_path)] == [shown]


@pytest.mark.parametrize("file", ["status.json", "metrics.jsonl", "log.txt"])
@pytest.mark.parametrize(("age", "word"), [(50, "running"), (70, "silent")])
@pytest.mark.parametrize(("change", "place"), [({}, ""), ({"host": "node7"}, " on node7")])
def test_a_run_without_a_sign_of_life_is_silent(
    tmp_path: Path, file: str, age: float, word: str, change: dict[str, str], place: str
) -> None:
    write_status(tmp_path / "status.json", Status("running", process={**this_process(), **change}))
    for path, seconds in ((tmp_path / "status.json", 7200), (tmp_path / file, age)):
        path.touch()
        os.utime(path, (time.time() - seconds,) * 2)
    assert [run.state for run in list_runs(tmp_path)] == [word + place]


def test_a_run_of_another_version_is_not_called_killed(tmp_path: Path) -> None:
    write_status(tmp_path / "status.json", Status("running"))
    assert [run.state for run in list_runs(tmp_path)] == ["running on an unknown machine"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match="not a run of fxbio train"):
        RunFolder(tmp_path).check("no", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="not a run of fxbio train"):
        RunFolder(tmp_path / "file").check("auto", overwrite=False)


def test_the_environment_is_plain_data() -> None:
    assert json.loads(json.dumps(environment(2)))["processes"] == 2


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
            TrainError,
            "died",
        ),
        (RuntimeError("[x] Connection closed by peer [127.0.0.1]"), LostProcess, "is gone"),
        (RuntimeError("[x] writev [127.0.0.1]:7: Broken pipe"), LostProcess, "is gone"),
        (RuntimeError("[x] Timed out waiting 7ms for recv"), TrainError, "does not answer"),
        (MemoryError(), TrainError, "not enough memory: MemoryError"),
        (RuntimeError("can't allocate memory: 7 bytes\nTraceback"), TrainError, "train.accumulate"),
        (OSError(28, "No space left on device"), TrainError, "the disk is full"),
        (
            DataError("Caught DataError in worker 0.\nOriginal Traceback:\n  x\nDataError: 7.jpg"),
            DataError,
            "7.jpg",
        ),
    ],
)
def test_errors_are_explained(error: Exception, kind: type[FxbioError], text: str) -> None:
    explained = explain(error)
    assert isinstance(explained, kind)
    assert text in str(explained)
    assert "Traceback" not in str(explained)


def test_a_lost_process_gives_advice_once() -> None:
    assert str(LostProcess(["rank 1: it is broken\n  = help: mend it"])).count("= help:") == 1
    assert str(LostProcess(["rank 1: it is broken"])).count("= help:") == 1


def test_other_errors_stay_what_they_are() -> None:
    error = ValueError("x")
    assert explain(error) is error
