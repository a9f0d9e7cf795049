"""Preview of a study, in a few lines."""

from __future__ import annotations

from collections.abc import Iterator

from fxbio.errors import PolicyError, UnreachableWeightError
from fxbio.policy.policy import Policy
from fxbio.policy.resolve import resolve
from fxbio.study.cells import Cell
from fxbio.study.study_folder import Index
from fxbio.study.subject import Cost, Subject
from fxbio.train.output.progress import duration

__all__ = ["plan_lines"]


def plan_lines(index: Index, subject: Subject, left: int, jobs: int) -> Iterator[str]:
    """Axes, runs and cost of a study.

    Args:
        index: the study.
        subject: its model, and what a run costs.
        left: runs that are still to be done.
        jobs: that are done at the same time.
    """
    seeds = ", ".join(map(str, index.seeds))
    yield f"study    {index.name}: {index.metric} of {index.model}, seeds {seeds}"
    for axis in dict.fromkeys(cell.axis for cell in index.cells[1:]):
        yield _axis_line(axis, [cell for cell in index.cells if cell.axis == axis])
    yield from _misfits(index, subject)
    policies = len({cell.run for cell in index.cells})
    total = policies * len(index.seeds)
    yield (
        f"runs     {policies} policies x {len(index.seeds)} seeds = {total}, of which "
        f"{total - left} are over"
    )
    if subject.cost is not None:
        yield _cost_line(subject.cost, left, jobs)


def _cost_line(cost: Cost, left: int, jobs: int) -> str:
    return (
        f"cost     a step takes {cost.step_seconds:.3g} s, a run of {cost.steps:,} steps about "
        f"{duration(cost.run_seconds)}; what is left about "
        f"{duration(left * cost.run_seconds / jobs)} with --jobs {jobs}"
    )


def _axis_line(axis: str, cells: list[Cell]) -> str:
    units = ", ".join(dict.fromkeys(cell.unit for cell in cells))
    rules = ", ".join(dict.fromkeys(cell.rule for cell in cells if cell.rule))
    return f"axis     {axis}: {len(cells)} cells; {units}{' x ' if rules else ''}{rules}"


def _misfits(index: Index, subject: Subject) -> Iterator[str]:
    """Policies that the model refuses: their rows will say so."""
    for run, policy in {cell.run: cell.policy for cell in index.cells}.items():
        try:
            resolve(Policy.from_yaml(policy), subject.graph)
        except (PolicyError, UnreachableWeightError) as error:
            yield f"  note: {run} will fail: {error.headline}"
