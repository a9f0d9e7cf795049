"""Studies whose runs are jobs: submitit's local executor, and a stand-in for Slurm's commands."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from submitit.core.utils import cloudpickle_dump

from fxbio.errors import ConfigError
from fxbio.study import ablate, cluster_jobs
from fxbio.study.cluster import Cluster
from fxbio.study.cluster_jobs import Job, run_on_cluster
from fxbio.study.rows import Row, read_rows
from fxbio.study.run_cell import CellRun
from fxbio.study.study_folder import StudyFolder
from tests.study.conftest import MODEL

Write = Callable[..., Path]

ONE = "rules: [fa]\naxes:\n  - {name: a, unit: layer, within: {module: head}}\n"
PREEMPTED = """
        trains = os.path.exists("out/cells/base/seed-0/run/status.json") and self.training
        if trains and not os.path.exists("preempted"):
            open("preempted", "w").close()
            os.kill(os.getpid(), signal.SIGUSR2)  # what submitit has Slurm send
        return"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_jobs, "_PATIENCE", 0.0)
    monkeypatch.setattr(cluster_jobs, "_LOOK", 0.1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def rows_in(folder: str) -> dict[tuple[str, int], Row]:
    path = Path(folder, "results.jsonl")
    rows, broken = read_rows(path)
    assert (broken, len(path.read_text().splitlines())) == (0, len(rows))  # each run once
    return rows


def records(folder: str = ".") -> list[Path]:
    return list(Path(folder).glob("**/*_submitted.pkl"))


def submissions(folder: str) -> int:
    return len(list(Path(folder).glob("cells/**/jobs/*/*_log.out")))


@pytest.mark.slow
def test_jobs_come_to_the_same_as_one_process(write: Write, folder: Path) -> None:
    (folder / "none.yaml").write_text(
        "version: 1\ndefault: bp\nrules: [{where: {module: nowhere}, rule: fa}]\n"
    )
    path = write(ONE + "  - {name: p, policies: [none.yaml]}\n")
    ablate(path, "here")
    said: list[str] = []
    ablate(path, "there", cluster="local", jobs=2, tell=said.append)
    here, there = rows_in("here"), rows_in("there")
    assert here.keys() == there.keys()
    for key, row in here.items():
        other = there[key]
        assert (row.state, row.metrics, row.angle) == (other.state, other.metrics, other.angle)
        assert str(row.error).splitlines()[0] == str(other.error).splitlines()[0]
    assert [row.state for row in here.values()].count("failed") == 1
    assert "jobs     each run is a job of local, at most 2 at a time" in "\n".join(said)
    assert (submissions("there"), records()) == (3, [])


@pytest.mark.slow
def test_a_driver_that_is_killed_loses_and_repeats_nothing(write: Write, folder: Path) -> None:
    path = write(ONE.replace("[fa]", "[fa, usf]"))
    arguments = ["ablate", str(path), "--out", "out", "--cluster", "local", "--jobs", "2"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "fxbio", *arguments], cwd=folder, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 100
    while len(records()) < 2:
        assert driver.poll() is None, driver.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    said: list[str] = []
    ablate(path, "out", cluster="local", jobs=2, tell=said.append)
    assert "2 of the runs are with local already" in said
    assert {row.state for row in rows_in("out").values()} == {"done"}
    assert (len(rows_in("out")), submissions("out"), records()) == (3, 3, [])


@pytest.mark.slow
def test_a_job_that_is_preempted_goes_on_from_where_it_was(write: Write, folder: Path) -> None:
    text = "import os, signal\n" + MODEL.replace("\n        return", PREEMPTED)
    (folder / "model.py").write_text(text)
    said: list[str] = []
    ablate(write(ONE), "out", cluster="local", jobs=1, tell=said.append)
    assert any("base seed 0: stopped at step 1, goes on" in line for line in said)
    assert "continuing at step 1" in (folder / "out/cells/base/seed-0/run/log.txt").read_text()
    assert {row.state for row in rows_in("out").values()} == {"done"}
    assert (submissions("out"), records()) == (3, [])


def test_without_submitit(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match="submitit, which is not installed") as caught:
        ablate(write(ONE), "out", cluster="slurm")
    assert "pip install 'fxbio[cluster]'" in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("{gpus: 1}", "submitit refuses what the study asks of the cluster"),
        ("{timeout_min: soon}", "submitit refuses what the study asks of the cluster"),
        ("{slurm_partitoin: gpu}", "Unknown argument 'partitoin'"),
        ("{nodes: 2}", "'nodes' is 2, but a run of a study is one process"),
        ("{slurm_ntasks_per_node: 2}", "but a run of a study is one process"),
        ("[gpu]", "cluster must be a mapping"),
    ],
)
def test_parameters_that_cannot_be(write: Write, asked: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ablate(write(f"cluster: {asked}\n" + ONE), "out", cluster="local")
    assert said in str(caught.value)
    assert "study.yaml:6:10" in str(caught.value)
    assert not Path("out").exists()


def test_slurm_is_not_here(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="slurm is not to be found here"):
        ablate(write(ONE), "out", cluster="slurm")


def test_runs_that_another_cluster_has(write: Write, folder: Path) -> None:
    path = write(ONE)
    record = folder / "out/cells/base/seed-0/jobs/slurm/17_submitted.pkl"
    ablate(path, "whole")
    StudyFolder(folder / "out").path.mkdir()
    (folder / "out/study.json").write_bytes((folder / "whole/study.json").read_bytes())
    record.parent.mkdir(parents=True)
    record.touch()
    for other in (None, "local"):
        with pytest.raises(ConfigError, match="1 runs of the study were given to slurm") as caught:
            ablate(path, "out", cluster=other)  # type: ignore[arg-type]
        assert "jobs of slurm: 17" in str(caught.value)
    assert record.exists()


SBATCH = """\
#!/bin/sh
id=$(( $(cat count 2>/dev/null || echo 100) + 1 )); echo $id > count
cp "$1" $id.sh; echo RUNNING > $id.state
( SLURM_JOB_ID=$id sh $id.sh; echo COMPLETED > $id.state ) >/dev/null 2>&1 &
echo "Submitted batch job $id"
"""
SRUN = """\
#!/bin/sh
while true; do
  case "$1" in --unbuffered) shift;; --output|--error) shift 2;; *) break;; esac
done
exec "$@"
"""
SACCT = """\
#!/bin/sh
echo "JobID|State|NodeList"
for file in *.state; do echo "${file%.state}|$(cat $file)|node"; done
"""


@pytest.fixture
def slurm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands of Slurm; what they know is in the current folder."""
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    return folder


@pytest.mark.slow
def test_a_study_on_slurm(write: Write, slurm: Path) -> None:
    asked = "{timeout_min: 90, gpus_per_node: 1, slurm_partition: long, slurm_qos: low}"
    ablate(write(f"cluster: {asked}\n" + ONE), "out", cluster="slurm")
    assert {row.state: row.error for row in rows_in("out").values()} == {"done": None}
    script = (slurm / "101.sh").read_text()
    for flag in ("job-name=study", "time=90", "gpus-per-node=1", "partition=long", "qos=low"):
        assert f"#SBATCH --{flag}\n" in script
    assert ((slurm / "count").read_text(), records()) == ("102\n", [])


def test_a_job_that_slurm_refuses(write: Write, slurm: Path) -> None:
    (slurm / "bin/sbatch").write_text("#!/bin/sh\necho 'invalid partition' >&2; exit 1\n")
    with pytest.raises(ConfigError, match="slurm refuses the job of base, seed 0") as caught:
        ablate(write("cluster: {slurm_partition: x}\n" + ONE), "out", cluster="slurm")
    assert "invalid partition" in str(caught.value)
    assert records() == []


NUMBERS = itertools.count(1000)


@pytest.mark.parametrize(
    ("state", "result", "expected"),
    [
        ("PENDING", None, None),
        ("RUNNING", "preempted", None),  # Slurm puts it back into the queue by itself
        ("UNKNOWN", None, None),
        ("COMPLETED", "done", "done"),
        ("COMPLETING", "done", "done"),
        ("COMPLETED", "preempted", "preempted"),
        ("PREEMPTED", "preempted", "preempted"),
        ("CANCELLED by 7", "preempted", "failed"),
        ("OUT_OF_MEMORY", None, "failed"),
        ("NODE_FAIL", None, "failed"),
    ],
)
def test_what_became_of_a_job(
    slurm: Path, state: str, result: str | None, expected: str | None
) -> None:
    job = given(slurm, state, result)
    row = job.row()
    assert (row and row.state) == expected
    if expected == "failed":
        assert row is not None
        assert f"ended as {state}" in str(row.error)
        assert "_log.err" in str(row.error)


def given(folder: Path, state: str, result: str | None) -> Job:
    """The job of a run that a driver finds when it begins."""
    number = next(NUMBERS)
    task = CellRun("a", 0, folder / "cell")
    files = task.folder / "jobs/slurm"
    files.mkdir(parents=True)
    (files / f"{number}_submitted.pkl").touch()
    (folder / f"{number}.state").write_text(state)
    if result is not None:
        row = Row("a", 0, result)  # type: ignore[arg-type]
        cloudpickle_dump(("success", row), files / f"{number}_0_result.pkl")
    (job,) = Job.find(task, Cluster("slurm", {}))
    return job


def ending(folder: Path) -> Job:
    """A job that ends, and leaves its result, in the moment in which its state is asked for."""
    job = given(folder, "COMPLETED", "done")
    (result,) = (folder / "cell/jobs/slurm").glob("*_result.pkl")
    result.rename(folder / "result")
    (folder / "bin/sacct").write_text(SACCT.replace("\n", f"\nmv result '{result}'\n", 1))
    return job


def test_a_job_that_ends_while_it_is_looked_at(slurm: Path) -> None:
    row = ending(slurm).row()
    assert row is not None
    assert row.state == "done"


def test_a_job_that_ends_while_a_driver_begins_is_not_lost(slurm: Path) -> None:
    assert not ending(slurm).is_lost


def test_what_ended_without_a_driver_is_submitted_again(slurm: Path) -> None:
    given(slurm, "NODE_FAIL", None)
    task = CellRun("a", 0, slurm / "cell")
    (slurm / "bin/srun").write_text("#!/bin/sh\nexit 0\n")
    (row,) = run_on_cluster([task], Cluster("slurm", {"timeout_min": 5}), None, lambda line: None)
    assert (row.state, (slurm / "count").read_text()) == ("failed", "101\n")
    assert "its job 101 ended as COMPLETED, without a result" in str(row.error)


def test_a_result_that_cannot_be_read(slurm: Path) -> None:
    job = given(slurm, "COMPLETED", None)
    path = next((slurm / "cell/jobs/slurm").glob("*")).as_posix()
    Path(path.replace("submitted", "0_result")).write_bytes(b"no pickle")
    row = job.row()
    assert row is not None
    assert (row.state, "failed: " in str(row.error)) == ("failed", True)
