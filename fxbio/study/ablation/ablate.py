"""A study from its file to its tables, whatever happens on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from fxbio.errors import PolicyError, UnreachableWeightError
from fxbio.policy.resolve import resolve
from fxbio.policy.schema import Policy
from fxbio.study.ablation.cells import Cell, make_cells
from fxbio.study.ablation.folder import Index, StudyFolder
from fxbio.study.ablation.output import write_results
from fxbio.study.ablation.read import load_study
from fxbio.study.ablation.rows import Row, append_row, read_rows, repair_rows
from fxbio.study.ablation.run_cell import CellRun
from fxbio.study.ablation.subject import Subject, open_subject
from fxbio.study.ablation.summary import StudyResults, summarise
from fxbio.study.ablation.workers import run_all
from fxbio.train.config import recipe_dict
from fxbio.train.output.view import duration

__all__ = ["ablate", "load_results"]

Tell = Callable[[str], None]


def ablate(
    study_file: str | Path,
    out: str | Path,
    *,
    jobs: int = 1,
    dry_run: bool = False,
    retry: bool = False,
    tell: Tell = lambda line: None,
) -> StudyResults:
    """Carry out a study, or what is left of it, and write its tables.

    Args:
        study_file: what to do.
        out: folder of the study. One that was stopped goes on where it was.
        jobs: processes that train at the same time.
        dry_run: tell the plan, train nothing and write nothing.
        retry: train again what failed or diverged before.
        tell: gets the plan and the progress, line by line.

    Raises:
        FxbioError: for a mistake in the study, or a folder of another one.
        Stopped: when a signal stopped a run, after saving; the same call goes on.
    """
    study = load_study(study_file)
    subject = open_subject(study.recipe)
    cells = make_cells(study, subject.model, subject.graph)
    index = Index(
        study.name,
        subject.graph.name,
        subject.metric,
        recipe_dict(study.recipe),
        study.seeds,
        cells,
        tuple(axis.name for axis in study.axes if axis.is_curve),
    )
    folder = StudyFolder(Path(out))
    folder.check(index)
    rows, _ = read_rows(folder.rows)
    left = _left(index, rows, retry)
    _tell_plan(index, subject, len(left), jobs, tell)
    if dry_run:
        tell("nothing was written")
        return summarise(index, rows)
    folder.write(index, study.text, subject.picture(study.policy))
    with folder.locked():
        rows = repair_rows(folder.rows, tell)
        tasks = [folder.write_cell(cell, seed, study.recipe) for cell, seed in left]
        try:
            _run(tasks, folder, jobs, rows, index.metric, tell)
        finally:
            results = summarise(index, rows)
            write_results(results, folder.path)
    return results


def load_results(folder: str | Path) -> StudyResults:
    """What has come so far of the study in a folder.

    Raises:
        RecordError: when there is no study in it.
    """
    place = StudyFolder(Path(folder))
    return summarise(place.read_index(), read_rows(place.rows)[0])


def _left(index: Index, rows: dict[tuple[str, int], Row], retry: bool) -> list[tuple[Cell, int]]:
    """What is to be trained: each run once, however many cells share it."""
    wanted = {(cell.run, seed): (cell, seed) for cell in index.cells for seed in index.seeds}
    over = {key for key, row in rows.items() if row.state == "done" or not retry}
    return [pair for key, pair in wanted.items() if key not in over]


def _run(
    tasks: Sequence[CellRun],
    folder: StudyFolder,
    jobs: int,
    rows: dict[tuple[str, int], Row],
    metric: str,
    tell: Tell,
) -> None:
    began = time.perf_counter()
    with closing(run_all(tasks, jobs, tell)) as ended:  # so that processes end before an error
        for done, row in enumerate(ended, start=1):
            append_row(folder.rows, row)
            rows[row.key] = row
            remaining = (time.perf_counter() - began) / done * (len(tasks) - done)
            tell(f"[{done}/{len(tasks)}] {_outcome(row, metric)}; {duration(remaining)} left")


def _outcome(row: Row, metric: str) -> str:
    value = row.metrics.get(metric, math.nan)
    error = row.error.splitlines()[0] if row.error else ""
    told = f"{metric} {value:.4f}" if row.state == "done" else f"{row.state}, {error}"
    return f"{row.run} seed {row.seed}: {told}, in {row.seconds:.1f} s"


def _tell_plan(index: Index, subject: Subject, left: int, jobs: int, tell: Tell) -> None:
    cells, seeds, cost = index.cells, len(index.seeds), subject.cost
    tell(f"study    {index.name}: {subject.graph.name}, {index.metric}, {seeds} seeds")
    for axis in dict.fromkeys(cell.axis for cell in cells[1:]):
        members = [cell for cell in cells if cell.axis == axis]
        units = ", ".join(dict.fromkeys(cell.unit for cell in members))
        rules = ", ".join(dict.fromkeys(cell.rule for cell in members if cell.rule))
        tell(f"axis     {axis}: {len(members)} cells; {units}{' x ' if rules else ''}{rules}")
    for line in _misfits(cells, subject):
        tell(line)
    policies = len({cell.run for cell in cells})
    tell(
        f"runs     {policies} policies x {seeds} seeds = {policies * seeds}, of which "
        f"{policies * seeds - left} are over"
    )
    total = left * cost.run_seconds / jobs
    tell(
        f"cost     a step takes {cost.step_seconds:.3g} s, a run of {cost.steps:,} steps about "
        f"{duration(cost.run_seconds)}; what is left about {duration(total)} in {jobs} process(es)"
    )


def _misfits(cells: Sequence[Cell], subject: Subject) -> list[str]:
    """Cells whose policy the model refuses: their rows will say so."""
    found = []
    for cell in cells:
        try:
            resolve(Policy.from_yaml(cell.policy), subject.graph)
        except (PolicyError, UnreachableWeightError) as error:
            found.append(f"  note: {cell.run} will fail: {error.headline}")
    return found
