"""A study from its file to its tables, whatever happens on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

from fxbio.study.cells import Cell, make_cells
from fxbio.study.cluster import ClusterName, open_cluster
from fxbio.study.cluster_jobs import check_records, run_on_cluster
from fxbio.study.plots import plots_missing
from fxbio.study.preview import plan_lines
from fxbio.study.read_study import Study, load_study
from fxbio.study.rows import Row, append_row, read_rows, repair_rows
from fxbio.study.study_folder import Index, StudyFolder
from fxbio.study.study_output import write_results
from fxbio.study.subject import Subject, open_subject
from fxbio.study.summary import StudyResults, summarise
from fxbio.study.worker_pool import run_all
from fxbio.train.config import recipe_dict
from fxbio.train.output.progress import duration

__all__ = ["ablate", "load_results"]

Tell = Callable[[str], None]


def ablate(
    study_file: str | Path,
    out: str | Path,
    *,
    jobs: int | None = None,
    cluster: ClusterName | None = None,
    dry_run: bool = False,
    retry: bool = False,
    tell: Tell = lambda line: None,
) -> StudyResults:
    """Carry out a study, or what is left of it, and write its tables.

    Args:
        study_file: what to do.
        out: folder of the study. One that was stopped goes on where it was.
        jobs: that are done at the same time; by default one, or all of them on a cluster.
        cluster: submit each run as a job of its own, through submitit; ``local`` is this machine.
        dry_run: tell the plan, train nothing and write nothing.
        retry: train again what failed or diverged before.
        tell: gets the plan and the progress, line by line.

    Raises:
        FxbioError: for a mistake in the study, or a folder of another one.
        Stopped: when a signal stopped a run, after saving; the same call goes on.
    """
    study = load_study(study_file)
    there = None
    if cluster is not None:
        there = open_cluster(cluster, study.name, study.cluster, study.cluster_location)
    subject = open_subject(study.recipe, timed=there is None)
    index = _index(study, subject)
    folder = StudyFolder(Path(out))
    folder.check(index)
    left = _left(index, read_rows(folder.rows)[0], retry)
    for line in plan_lines(index, subject, len(left), jobs or 1):
        tell(line)
    if there is not None:
        tell(there.told(jobs))
    missing = plots_missing()
    if missing is not None:
        tell(f"note: {missing}")
    if dry_run:
        tell("nothing was written")
        return summarise(index, read_rows(folder.rows)[0])
    folder.write(index, study.text, subject.picture(study.policy))
    with folder.locked():
        tasks = [folder.write_cell(cell, seed, study.recipe) for cell, seed in left]
        check_records(tasks, cluster)
        if there is None:
            rows = run_all(tasks, jobs or 1, tell)
        else:
            rows = run_on_cluster(tasks, there, jobs, tell)
        return _carry_out(rows, len(tasks), folder, index, tell)


def load_results(folder: str | Path) -> StudyResults:
    """Results so far of the study in a folder.

    Raises:
        RecordError: when there is no study in it.
    """
    place = StudyFolder(Path(folder))
    return summarise(place.read_index(), read_rows(place.rows)[0])


def _index(study: Study, subject: Subject) -> Index:
    return Index(
        name=study.name,
        model=subject.graph.name,
        metric=subject.metric,
        recipe=recipe_dict(study.recipe),
        seeds=study.seeds,
        cells=make_cells(study, subject.model, subject.graph),
        curves=tuple(axis.name for axis in study.axes if axis.is_curve),
    )


def _left(index: Index, rows: dict[tuple[str, int], Row], retry: bool) -> list[tuple[Cell, int]]:
    """Runs to train: each once, however many cells share it."""
    wanted = {(cell.run, seed): (cell, seed) for cell in index.cells for seed in index.seeds}
    over = {key for key, row in rows.items() if row.state == "done" or not retry}
    return [pair for key, pair in wanted.items() if key not in over]


def _carry_out(
    ends: Generator[Row, None, None], total: int, folder: StudyFolder, index: Index, tell: Tell
) -> StudyResults:
    """Train what is left. However it ends, the tables show what is there."""
    rows = repair_rows(folder.rows, tell)
    began = time.perf_counter()
    try:
        with closing(ends):  # processes end before an error leaves
            for done, row in enumerate(ends, start=1):
                append_row(folder.rows, row)
                rows[row.key] = row
                remaining = (time.perf_counter() - began) / done * (total - done)
                told = _outcome(row, index.metric)
                tell(f"[{done}/{total}] {told}; {duration(remaining)} left")
    finally:
        results = summarise(index, rows)
        write_results(results, folder.path)
    return results


def _outcome(row: Row, metric: str) -> str:
    value = row.metrics.get(metric, math.nan)
    error = row.error.splitlines()[0] if row.error else ""
    told = f"{metric} {value:.4f}" if row.state == "done" else f"{row.state}, {error}"
    return f"{row.run} seed {row.seed}: {told}, in {row.seconds:.1f} s"
