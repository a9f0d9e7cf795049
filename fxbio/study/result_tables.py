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
    "AS_BASE",
    "IS_BASE",
    "LEGEND",
    "Line",
    "Notation",
    "Table",
    "csv_text",
    "latex",
    "tables",
]

AS_BASE = "as the base"
IS_BASE = "the base itself"


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
    "exactly the same numbers: its rule had no error to send, as in a first layer, or its policy "
    f"says the same in other words. What is noted to be {IS_BASE} has its policy, and its runs."
)


@dataclass(frozen=True)
class Notation:
    """Notation of the values of a metric: as they are, or in percent."""

    name: str
    """Of the metric."""
    percent: bool = False

    @property
    def metric(self) -> str:
        """The heading of a column, the title of an axis."""
        return f"{self.name} (%)" if self.percent else self.name

    def scaled(self, value: float) -> float:
        """In the unit of the heading."""
        return 100 * value if self.percent else value

    def spread(self, mean: float | None, std: float | None) -> str:
        """A mean with its deviation, where there are any."""
        if mean is None:
            return ""
        return self._number(mean) if std is None else f"{self._number(mean)} ± {self._number(std)}"

    def delta(self, delta: float | None) -> str:
        """A difference with its sign; what rounds to zero has a plus."""
        if delta is None:
            return ""
        digits = 2 if self.percent else 4
        return f"{round(self.scaled(delta), digits) + 0.0:+.{digits}f}"

    def _number(self, value: float) -> str:
        return f"{self.scaled(value):.{2 if self.percent else 4}f}"


@dataclass(frozen=True)
class Table:
    """The results of an axis in words."""

    name: str
    headings: tuple[str, ...]
    numbers: tuple[bool, ...]
    """Which columns are set to the right."""
    rows: tuple[tuple[str, ...], ...]
    """The base heads them, for its numbers are what the others are compared with."""


def tables(results: StudyResults, *, percent: bool = False) -> list[Table]:
    """A table for each axis; columns that nothing stands in are left out."""
    axes, notation = results.axes() or {"base": []}, Notation(results.index.metric, percent)
    return [_table(name, notation, [results.base, *lines]) for name, lines in axes.items()]


def _table(name: str, notation: Notation, lines: Sequence[Line]) -> Table:
    headings = ("cell", "rule", notation.metric, "Δ to base", "n", "steps", "angle", "note")
    cells = (_cells(line, notation) for line in lines)
    columns = zip(headings, _NUMBERS, *cells, strict=True)
    shown = [column for column in columns if any(column[2:])]
    names, numbers, *rows = zip(*shown, strict=True)
    return Table(name, names, numbers, tuple(rows))


_NUMBERS = (False, False, True, True, True, True, True, False)


def _cells(line: Line, notation: Notation) -> tuple[str, ...]:
    return (
        line.unit,
        line.rule,
        notation.spread(line.mean, line.std),
        notation.delta(line.delta),
        str(line.n),
        "" if line.steps is None else str(line.steps),
        "" if line.angle is None else f"{line.angle:.1f}°",
        line.note,
    )


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


def latex(results: StudyResults, *, percent: bool = False) -> str:
    r"""A ``table`` for each axis, with caption and label, to be put in with ``\input``."""
    preamble = "% \\usepackage{booktabs}\n"
    parts = (_latex_table(results, table) for table in tables(results, percent=percent))
    return "\n".join([preamble, *parts])


def _latex_table(results: StudyResults, table: Table) -> str:
    columns = "".join("r" if number else "l" for number in table.numbers)
    caption = f"{table.name}. {results.caption()}; mean ± sample standard deviation."
    label = "-".join(re.findall(r"[A-Za-z0-9]+", f"{results.index.name} {table.name}"))
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{_latex_text(caption)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _latex_row(table.headings),
            r"\midrule",
            *map(_latex_row, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
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
