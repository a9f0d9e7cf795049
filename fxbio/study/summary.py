"""From rows to the lines of tables: mean and deviation over seeds, and the delta to the base."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fxbio.analysis.tables import TableResult
from fxbio.study.cells import BASE, Cell
from fxbio.study.result_tables import AS_BASE, IS_BASE, Line, tables
from fxbio.study.rows import Row
from fxbio.study.study_folder import Index

__all__ = ["StudyResults", "summarise"]

Rows = Mapping[tuple[str, int], Row]


@dataclass(frozen=True)
class StudyResults(TableResult):
    """Results of a study so far."""

    index: Index
    lines: tuple[Line, ...]
    """The base first, then axis by axis."""
    rows: tuple[Row, ...]
    """Of every run that ended, however it did."""

    @property
    def base(self) -> Line:
        """The base."""
        return self.lines[0]

    def axes(self) -> dict[str, list[Line]]:
        """The lines of each axis, in the order of the study."""
        found: dict[str, list[Line]] = {}
        for line in self.lines[1:]:
            found.setdefault(line.axis, []).append(line)
        return found

    def records(self) -> list[dict[str, Any]]:
        """One flat row for each cell."""
        return [asdict(line) for line in self.lines]

    def caption(self) -> str:
        """Name, model and metric."""
        index = self.index
        return f"{index.name}: {index.metric} of {index.model}, seeds {_listed(index.seeds)}"

    def render(self) -> RenderableType:
        """Tables for a terminal."""
        parts: list[RenderableType] = [Text(self.caption(), style="bold")]
        for found in tables(self):
            name = found.name if self.axes() else ""
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=name, title_justify="left")
            for heading, number in zip(found.headings, found.numbers, strict=True):
                table.add_column(heading, justify="right" if number else "left")
            for row in found.rows:
                table.add_row(*map(Text, row))
            parts.append(table)
        return Group(*parts)


def summarise(index: Index, rows: Rows) -> StudyResults:
    """The results of a study, whole or not.

    Args:
        index: what was to be done.
        rows: what was done, by run and seed; rows of other cells are left out.
    """
    lines = tuple(_line(cell, index, rows) for cell in index.cells)
    runs = dict.fromkeys((cell.run, seed) for cell in index.cells for seed in index.seeds)
    return StudyResults(index, lines, tuple(rows[key] for key in runs if key in rows))


def _line(cell: Cell, index: Index, rows: Rows) -> Line:
    done = _done(cell.run, index, rows)
    base = _done(BASE, index, rows)
    values = [row.metrics[index.metric] for row in done.values()]
    deltas = [
        row.metrics[index.metric] - base[seed].metrics[index.metric]
        for seed, row in done.items()
        if seed in base and cell.run != BASE
    ]
    angles = [row.angle for row in done.values() if row.angle is not None]
    return Line(
        axis=cell.axis,
        unit=cell.unit,
        rule=cell.rule,
        mean=fmean(values) if values else None,
        std=stdev(values) if len(values) > 1 else None,
        delta=fmean(deltas) if deltas else None,
        n=len(values),
        steps=max((row.step for row in done.values()), default=None),
        angle=fmean(angles) if angles else None,
        note=_note(cell, index, rows),
    )


def _done(run: str, index: Index, rows: Rows) -> dict[int, Row]:
    """The finished runs of a cell by seed, of those that have a number to show."""
    found = {seed: rows[run, seed] for seed in index.seeds if (run, seed) in rows}
    return {
        seed: row
        for seed, row in found.items()
        if row.state == "done" and math.isfinite(row.metrics.get(index.metric, math.nan))
    }


def _note(cell: Cell, index: Index, rows: Rows) -> str:
    states = [rows[cell.run, s].state if (cell.run, s) in rows else "to do" for s in index.seeds]
    bad = [state for state in dict.fromkeys(states) if state != "done"]
    return ", ".join([*(f"{states.count(s)} {s}" for s in bad), *_sameness(cell, index, rows)])


def _sameness(cell: Cell, index: Index, rows: Rows) -> list[str]:
    """Notes on cells with the numbers of the base, for it looks like a mistake."""
    if not cell.axis:
        return []
    if cell.run == BASE:
        return [IS_BASE]
    base, done = _done(BASE, index, rows), _done(cell.run, index, rows)
    both = base.keys() & done.keys()
    same = both and all(done[seed].metrics == base[seed].metrics for seed in both)
    return [AS_BASE] if same else []


def _listed(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds))
