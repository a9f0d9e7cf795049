from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fxbio.errors import ConfigError, RecordError
from fxbio.policy.policy import Policy
from fxbio.study import ablate, load_results
from fxbio.study.rows import read_rows
from fxbio.study.study_folder import StudyFolder
from fxbio.train.config import load_recipe
from fxbio.train.engine.loop import Loop
from fxbio.train.engine.run import train

pytest.importorskip("sklearn")

Write = Callable[..., Path]

ONE = "rules: [fa]\naxes:\n  - {name: a, unit: layer, within: {module: head}}\n"


def told(path: Path, **options: Any) -> list[str]:
    said: list[str] = []
    ablate(path, "out", tell=said.append, **options)
    return said


def test_a_study_from_beginning_to_end(write: Write, folder: Path) -> None:
    said = told(write("seeds: [3, 4]\n" + ONE))
    assert "runs     2 policies x 2 seeds = 4, of which 0 are over" in said
    rows, _ = read_rows(folder / "out/results.jsonl")
    assert list(rows) == [("base", 3), ("base", 4), ("a/head/fa", 3), ("a/head/fa", 4)]
    assert {row.state for row in rows.values()} == {"done"}
    assert rows["base", 3].metrics != rows["base", 4].metrics
    assert rows["base", 3].angle is None
    angle = rows["a/head/fa", 3].angle
    assert angle is not None
    assert 45 < angle < 135
    for name in ("results.md", "results.csv", "results.tex", "a.svg", "report.html"):
        assert (folder / "out" / name).stat().st_size > 0
    assert [line.n for line in load_results("out").lines] == [2, 2]


COUNTED = """
def built(net, init=Net.__init__):
    init(net)
    with open("built", "a") as stream:
        stream.write("x")

Net.__init__ = built
"""


def test_the_model_of_a_run_is_built_once(write: Write, folder: Path) -> None:
    with (folder / "model.py").open("a") as stream:
        stream.write(COUNTED)
    path = write("seeds: [0, 1]\nrules: [fa, usf]\naxes:\n  - {name: a, unit: layer}\n")
    told(path, dry_run=True)
    looks = (folder / "built").stat().st_size  # the study captures it, and times a few steps
    told(path)
    runs = len(load_results("out").rows)
    assert runs == 2 * (1 + 4 * 2)
    assert (folder / "built").stat().st_size == 2 * looks + runs


def test_a_row_that_was_not_written_gets_the_angle_of_its_run(write: Write, folder: Path) -> None:
    path = write(ONE)
    told(path)
    lines = (folder / "out/results.jsonl").read_text().splitlines(keepends=True)
    (folder / "out/results.jsonl").write_text(lines[0])  # killed between the run and its row
    told(path)
    again = json.loads((folder / "out/results.jsonl").read_text().splitlines()[1])
    assert again["angle"] == json.loads(lines[1])["angle"]
    assert again["angle"] is not None


def test_a_cell_can_be_run_alone(write: Write, folder: Path) -> None:
    told(write("seeds: [3]\n" + ONE))
    cell = folder / "out/cells/a/head/fa/seed-3"
    assert Policy.from_yaml(cell / "policy.yaml").seed == 3
    alone = train(load_recipe(cell / "recipe.yaml"), folder / "alone")
    rows, _ = read_rows(folder / "out/results.jsonl")
    assert alone.metrics == rows["a/head/fa", 3].metrics


def test_a_dry_run_writes_nothing(write: Write, folder: Path) -> None:
    said = told(write(ONE), dry_run=True)
    assert "axis     a: 1 cells; head x fa" in said
    assert any(line.startswith("cost     a step takes") for line in said)
    assert not (folder / "out").exists()


def test_what_is_over_is_never_run_again(
    write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(ONE)
    told(path)
    before = (folder / "out/results.jsonl").read_text()
    monkeypatch.setattr(Loop, "run", lambda loop: pytest.fail("trained again"))
    assert "runs     2 policies x 1 seeds = 2, of which 2 are over" in told(path)
    lines = before.splitlines(keepends=True)
    (folder / "out/results.jsonl").write_text(lines[0] + lines[1][:30])  # killed while writing
    said = told(path)
    assert any("1 damaged line(s) removed" in line for line in said)
    rows, _ = read_rows(folder / "out/results.jsonl")
    assert rows["a/head/fa", 0].metrics == json.loads(lines[1])["metrics"]


def test_half_a_run_goes_on_from_its_checkpoint(
    write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Loop._finish_epoch

    def killed(loop: Loop) -> None:
        if loop.trainer.sampler.epoch == 1:
            loop.outputs.finish_saving()
            raise KeyboardInterrupt
        finish(loop)

    path = write(ONE)
    monkeypatch.setattr(Loop, "_finish_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        told(path)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert read_rows(folder / "out/results.jsonl")[0] == {}
    told(path)
    log = (folder / "out/cells/base/seed-0/run/log.txt").read_text()
    assert "continuing at step 2" in log
    assert [line.n for line in load_results("out").lines] == [1, 1]


def test_a_run_that_had_hardly_begun(write: Write, folder: Path) -> None:
    (folder / "out/cells/base/seed-0/run/checkpoints").mkdir(parents=True)
    path = write(ONE)
    with pytest.raises(ConfigError, match="is not empty, and no study"):
        told(path)
    (folder / "out").rename(folder / "half")
    told(path)
    for file in (folder / "out/cells/base/seed-0/run").glob("*.*"):
        file.unlink()
    (folder / "out/results.jsonl").unlink()
    told(path)
    assert [line.n for line in load_results("out").lines] == [1, 1]


def test_failed_and_diverged_cells_are_rows(write: Write, folder: Path) -> None:
    (folder / "none.yaml").write_text(
        "version: 1\ndefault: bp\nrules: [{where: {module: nowhere}, rule: fa}]\n"
    )
    path = write(
        "axes:\n  - {name: p, policies: [none.yaml]}\n"
        "  - {name: m, option: {rule: fa, option: magnitude, values: [1.0e30]}}\n"
    )
    said = told(path)
    assert any("p/none will fail: 'nowhere' matches no site of Net" in line for line in said)
    rows = {row.run: row for row in load_results("out").rows}
    assert rows["p/none"].state == "failed"
    assert "'nowhere' matches no site" in str(rows["p/none"].error)
    assert rows["m/magnitude=1e+30/fa"].state == "diverged"
    assert "What failed or diverged" in (folder / "out/report.html").read_text()
    assert any("of which 3 are over" in line for line in told(path))
    assert any("of which 1 are over" in line for line in told(path, retry=True))


def test_a_folder_of_another_study(write: Write, folder: Path) -> None:
    told(write(ONE))
    before = (folder / "out/results.jsonl").read_text()
    other = write("overrides: [optim.lr=0.5]\n" + ONE, "other.yaml")
    with pytest.raises(ConfigError, match="has the results of another study") as caught:
        told(other)
    assert "optim.lr: 0.1 there, 0.5 here" in str(caught.value)
    changed = write(ONE.replace("[fa]", "[{rule: usf, name: fa}]"), "changed.yaml")
    with pytest.raises(ConfigError, match="another policy in cell 'a/head/fa'"):
        told(changed)
    assert (folder / "out/results.jsonl").read_text() == before


def test_a_study_can_be_extended(write: Write, folder: Path) -> None:
    told(write(ONE))
    said = told(write("seeds: [0, 1]\n" + ONE.replace("[fa]", "[fa, usf]"), "longer.yaml"))
    assert "runs     3 policies x 2 seeds = 6, of which 2 are over" in said


def test_one_process_at_a_time_has_a_study(write: Write, folder: Path) -> None:
    path = write(ONE)
    told(path)
    with (
        StudyFolder(folder / "out").locked(),
        pytest.raises(ConfigError, match="another process is running the study in 'out'"),
    ):
        told(path)


def test_no_study_to_report_on(folder: Path) -> None:
    with pytest.raises(RecordError, match="there is no study in 'nowhere'"):
        load_results("nowhere")
    (folder / "study.json").write_text('{"name": ')
    with pytest.raises(RecordError, match="is damaged"):
        load_results(folder)


@pytest.mark.slow
def test_two_processes_do_the_same(write: Write, folder: Path) -> None:
    path = write(ONE)
    told(path)
    ablate(path, "both", jobs=2)
    assert [line.mean for line in load_results("both").lines] == [
        line.mean for line in load_results("out").lines
    ]
