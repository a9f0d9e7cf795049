"""The results of a study as tables: what is in them, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxbio.study.summary import StudyResults

__all__ = [
    "LEGEND",
    "Table",
    "csv_text",
    "delta_text",
    "latex",
    "tables",
]

AS_BASE = "as the base"


@dataclass(frozen=True)
class Line:
    """A cell over its seeds. Numbers are ``None`` where no run, or only one, gives them."""

    axis: str
    unit: str
    rule: str
    mean: float | None
    """Of the metric, over the seeds whose run is done."""
    std: float | None
    """Sample standard deviation, from two seeds on."""
    delta: float | None
    """Mean of the differences to the base with the same seed."""
    n: int
    """Runs that are done."""
    steps: int | None
    angle: float | None
    """Degrees between W and B, the mean over seeds."""
    note: str
    """Runs that failed, diverged, or are still to be done; or that all is as in the base."""


LEGEND = (
    "Numbers are the mean ± sample standard deviation over seeds of the last evaluation; Δ is the "
    "mean difference to the base with the same seed; n counts the runs that are done; the angle is "
    f"between forward and feedback weights at the end. What is noted to be {AS_BASE} came to "
    "exactly the same numbers: its rule had no error to send, as in a first layer."
)


@dataclass(frozen=True)
class Table:
    """The results of an axis in words."""

    name: str
    headings: tuple[str, ...]
    numbers: tuple[bool, ...]
    """Which columns are set to the right."""
    rows: tuple[tuple[str, ...], ...]
    """The base heads them, for its numbers are what the others are compared with."""


def tables(results: StudyResults) -> list[Table]:
    """A table for each axis; columns that nothing stands in are left out."""
    axes = results.axes() or {"base": []}
    return [
        _table(name, results.index.metric, [results.base, *lines]) for name, lines in axes.items()
    ]


def _table(name: str, metric: str, lines: Sequence[Line]) -> Table:
    headings = ("cell", "rule", metric, "Δ to base", "n", "steps", "angle", "note")
    columns = zip(headings, _NUMBERS, *map(_cells, lines), strict=True)
    shown = [column for column in columns if any(column[2:])]
    names, numbers, *rows = zip(*shown, strict=True)
    return Table(name, names, numbers, tuple(rows))


_NUMBERS = (False, False, True, True, True, True, True, False)


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.unit,
        line.rule,
        _with_spread(line.mean, line.std),
        delta_text(line.delta),
        str(line.n),
        "" if line.steps is None else str(line.steps),
        "" if line.angle is None else f"{line.angle:.1f}°",
        line.note,
    )


def delta_text(delta: float | None) -> str:
    """A difference with its sign; what rounds to zero has a plus."""
    return "" if delta is None else f"{round(delta, 4) + 0.0:+.4f}"


def csv_text(results: StudyResults) -> str:
    """All lines with plain numbers; text that a spreadsheet would compute begins with ``'``."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([field.name for field in fields(Line)])
    writer.writerows(map(_csv_cell, astuple(line)) for line in results.lines)
    return stream.getvalue()


def _csv_cell(value: object) -> object:
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value


def latex(results: StudyResults) -> str:
    r"""A ``tabular`` for each axis, to be put into ``\begin{table}``."""
    preamble = "% \\usepackage{booktabs}\n"
    parts = (_latex_table(results.index.name, table) for table in tables(results))
    return "\n".join([preamble, *parts])


def _with_spread(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def _latex_table(study: str, table: Table) -> str:
    columns = "".join("r" if number else "l" for number in table.numbers)
    return "\n".join(
        [
            "% " + " ".join(f"{study}: {table.name}".split()),  # a comment ends with its line
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _latex_row(table.headings),
            r"\midrule",
            *map(_latex_row, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(map(_latex_text, cells)) + r" \\"


_SIGNED = re.compile(r"[+-][0-9.]+")
_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # at the beginning of a row it would be an option of the row before it
    "\n": " ",
    "\r": " ",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "°": r"$^\circ$",
}


def _latex_text(text: str) -> str:
    if _SIGNED.fullmatch(text):
        return f"${text}$"
    return "".join(_LATEX.get(character, character) for character in text)
