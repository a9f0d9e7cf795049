"""Runs as jobs of a cluster, one for each.

The record of a job is the file that submitit itself begins it from, in the folder of its run. A job
without that file does nothing, so there is no moment at which a run could be given away twice.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fxbio.errors import ConfigError, Stopped
from fxbio.study.cluster import Cluster, submitit
from fxbio.study.rows import Row
from fxbio.study.run_cell import CellRun, run_cell
from fxbio.train.distributed.signals import watch_signals
from fxbio.train.output.status import exit_code

__all__ = ["Job", "check_records", "run_on_cluster"]

_LOOK = 1.0
"""Seconds between looks at the jobs."""
_PATIENCE = 60.0
"""Seconds after its end in which the result of a job may still come to light on a shared disk."""
_IN_QUEUE = ("PENDING", "REQUEUE", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "UNKNOWN")
"""How states begin in which a cluster still has to do with a job, or cannot say."""
_RECORD = "_submitted.pkl"


def check_records(tasks: Sequence[CellRun], name: str | None) -> None:
    """Refuse to train what another cluster may be training.

    Args:
        tasks: what is left to be done.
        name: of the cluster that is to do it; ``None`` is this process.

    Raises:
        ConfigError: naming the jobs.
    """
    found = [
        path for task in tasks for path in _records(task, "*") if path.parent.name != (name or "")
    ]
    if found:
        owner = found[0].parent.name
        jobs = ", ".join(path.name.removesuffix(_RECORD) for path in found)
        raise ConfigError(
            f"{len(found)} runs of the study were given to {owner}, which may be training them",
            notes=[f"jobs of {owner}: {jobs}"],
            help=f"go on with --cluster {owner}; or cancel these jobs, and remove the folders "
            f"'jobs' beside the recipes of their runs",
        )


def run_on_cluster(
    tasks: Sequence[CellRun], cluster: Cluster, jobs: int | None, tell: Callable[[str], None]
) -> Generator[Row, None, None]:
    """The row of each run as its job ends.

    Runs that were given to the cluster before are waited for, and not given to it again. A job that
    was stopped by a signal has saved its run, which is then submitted once more.

    Args:
        tasks: in the order in which they are submitted.
        cluster: where to.
        jobs: that are in its queue at the same time; ``None`` is any number.
        tell: shows a line to the user.

    Raises:
        ConfigError: when a job is refused.
        Stopped: when a signal asked for it; jobs go on.
    """
    given = _given_before(tasks, cluster)
    known = {job.task for job in given}
    waiting = deque(task for task in tasks if task not in known)
    if given:
        tell(f"{len(given)} of the runs are with {cluster.name} already")
    with watch_signals(lambda line: None) as stop:  # nothing is saved here
        while waiting or given:
            while waiting and not stop and (jobs is None or len(given) < jobs):
                given.append(Job.submit(waiting.popleft(), cluster))
            for job in list(given):
                row = job.row()
                if row is None:
                    continue
                given.remove(job)
                if row.state == "preempted":
                    tell(f"{row.run} seed {row.seed}: stopped at step {row.step}, goes on")
                    waiting.appendleft(job.task)
                else:
                    yield row
                job.forget()
            if stop:
                raise Stopped(
                    f"the study was stopped; {len(given)} of its jobs are left to {cluster.name}",
                    exit=exit_code("preempted", stop.signal),
                    help="collect what they come to, and go on, with the same command",
                )
            time.sleep(_LOOK)


def _given_before(tasks: Sequence[CellRun], cluster: Cluster) -> list[Job]:
    """The jobs that are there already, without those that ended when nobody looked."""
    found = [job for task in tasks for job in Job.find(task, cluster)]
    lost = [job for job in found if job.is_lost]
    for job in lost:
        job.forget()
    return [job for job in found if job not in lost]


class Job:
    """A run that was given to a cluster."""

    def __init__(self, task: CellRun, job: Any) -> None:
        self.task, self._job = task, job
        self._over_since: float | None = None

    @classmethod
    def submit(cls, task: CellRun, cluster: Cluster) -> Job:
        """Give a run to a cluster.

        Raises:
            ConfigError: when it is refused.
        """
        executor = cluster.executor(task.folder / "jobs" / cluster.name)
        try:
            with _unheard(signal.SIGINT):
                return cls(task, executor.submit(_train, task))
        except RuntimeError as error:  # a command of the cluster failed
            raise ConfigError(
                f"{cluster.name} refuses the job of {task.run}, seed {task.seed}",
                location=cluster.location,
                notes=str(error).splitlines(),
            ) from error

    @classmethod
    def find(cls, task: CellRun, cluster: Cluster) -> Iterator[Job]:
        """The job of a run that was given to a cluster before."""
        kind = submitit().SlurmJob if cluster.name == "slurm" else submitit().LocalJob
        for path in _records(task, cluster.name):
            yield cls(task, kind(path.parent, path.name.removesuffix(_RECORD)))

    @property
    def is_lost(self) -> bool:
        """True if it came to its end and left nothing."""
        return self._is_over and not self._has_result

    def row(self) -> Row | None:
        """Result of the run, once its job is over."""
        over = self._stays_over()  # first, or a job that ends here would seem to leave nothing
        row = self._result() if self._has_result else None
        if row is not None and row.state != "preempted":
            return row
        if not over:  # the cluster may begin it again by itself
            return None
        if row is None or self._state.startswith("CANCELLED"):
            return self._failed(f"ended as {self._state}, without a result")
        return row

    def forget(self) -> None:
        """Remove its record; logs stay."""
        self._job.paths.submitted_pickle.unlink(missing_ok=True)
        self._job.paths.result_pickle.unlink(missing_ok=True)

    @property
    def _has_result(self) -> bool:
        found: bool = self._job.paths.result_pickle.exists()
        return found

    def _result(self) -> Row:
        try:
            row: Row = self._job.result()
            return row
        except Exception as error:  # of an import there, of a pickle, of submitit
            return self._failed(f"failed: {error}")

    def _failed(self, how: str) -> Row:
        error = f"its job {self._job.job_id} {how}\nlog: {self._job.paths.stderr}"
        return Row(self.task.run, self.task.seed, "failed", error=error)

    @property
    def _state(self) -> str:
        if not isinstance(self._job, submitit().LocalJob):
            return str(self._job.state)
        # submitit knows only of processes that this one began
        command = ["ps", "-p", self._job.job_id, "-o", "args="]
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return "RUNNING" if "submitit" in found else "ENDED"

    @property
    def _is_over(self) -> bool:
        return not self._state.startswith(_IN_QUEUE)

    def _stays_over(self) -> bool:
        """True if it has been over for so long that nothing more is to come."""
        if not self._is_over:
            self._over_since = None
        elif self._over_since is None:
            self._over_since = time.monotonic()
        return self._over_since is not None and time.monotonic() - self._over_since >= _PATIENCE


def _train(task: CellRun) -> Row:
    """Run a job. Left to itself, submitit would answer its signal by leaving at once."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the trainer watches it
    signal.signal(signal.SIGUSR2, lambda number, frame: signal.raise_signal(signal.SIGUSR1))
    return run_cell(task)


def _records(task: CellRun, cluster: str) -> list[Path]:
    return sorted(task.folder.glob(f"jobs/{cluster}/*{_RECORD}"))


@contextmanager
def _unheard(number: int) -> Iterator[None]:
    """Have processes that begin here ignore a signal that a terminal sends to all of them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)
