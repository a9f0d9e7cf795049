"""Plans for people: a table in the terminal, plain text in a pipe, Markdown in a folder."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fxbio.display import html_table
from fxbio.policy.assignment import KEPT, Assignment, Decision
from fxbio.policy.table_layout import Rows, column_widths, drop_columns, fit_rows
from fxbio.site import Unreachable

if TYPE_CHECKING:
    from fxbio.policy.plan import Plan

__all__ = ["plan_html", "plan_markdown", "plan_records", "plan_text", "render_plan"]

_COLUMNS = ("site", "op", "shape", "parameters", "rule", "decided by", "overrides")
_TOTALS = ("rule", "sites", "weights", "parameters", "share")
_NUMBERS = {"parameters", "sites", "weights", "share"}
_STYLES = {"rule": "cyan", "op": "dim", "shape": "dim", "overrides": "dim"}
_NARROWEST = {"overrides": 9, "site": 26, "decided by": 12, "rule": 10, "shape": 8}
"""Columns that may be broken, in the order in which they give way, and how narrow they become."""
_EXPENDABLE = ("overrides", "shape", "op")
"""Columns that a narrow terminal does without, the first first."""
_KEPT_WORDS = {"norm": "scales of normalisation layers", "embedding": "embeddings"}
_PADDING = (0, 1, 0, 0)
_PLAIN_WIDTH = 10_000
"""Wide enough that a pipe gets every row on one line."""


def render_plan(plan: Plan) -> RenderableType:
    """The plan as a rich renderable, which fits itself to the width of the terminal."""
    return _PlanView(plan)


def plan_text(plan: Plan) -> str:
    """The plan as plain text with one line per row, whatever its length."""
    stream = io.StringIO()
    console = Console(file=stream, width=_PLAIN_WIDTH, color_system=None, highlight=False)
    console.print(_PlanView(plan))
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def plan_markdown(plan: Plan) -> str:
    """The plan as a Markdown document."""
    parts = [f"# Plan of {plan.model}", f"Policy: {_policy_name(plan)}"]
    sites = _markdown_table(*_without_empty(list(_rows(plan))))
    parts += ["## Sites", sites, *_kept_lines(plan)]
    parts += ["## Totals", _markdown_table(_TOTALS, list(_total_rows(plan)))]
    for heading, lines in _lists(plan):
        parts += [f"## {heading}", "\n".join(f"* {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def plan_html(plan: Plan) -> str:
    """The plan as a table for notebooks."""
    columns, rows = _without_empty(list(_rows(plan)))
    totals = html_table("Totals", _TOTALS, _total_rows(plan))
    notes = [*_kept_lines(plan), *(line for _, lines in _lists(plan) for line in lines)]
    listed = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return html_table(f"{plan.model} · {_policy_name(plan)}", columns, rows) + totals + listed


def plan_records(plan: Plan) -> list[dict[str, Any]]:
    """One row per site, for data frames."""
    return [
        {
            "site": a.site.name,
            "weight": a.site.weight,
            "op": a.site.op,
            "shape": a.site.shape,
            "parameters": a.site.parameters,
            "depth": a.site.depth,
            "rule": a.rule,
            "options": a.options,
            "decided_by": str(a.decided_by),
            "overrides": ", ".join(map(str, a.overrides)),
            "fallback": a.fallback,
        }
        for a in plan.assignments
    ]


@dataclass(frozen=True)
class _PlanView:
    plan: Plan

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plan = self.plan
        yield Text(f" {plan.model} · {_policy_name(plan)}", style="bold")
        yield from _site_table(plan, options.max_width)
        for line in _kept_lines(plan):
            yield Text(f" {line}\n", style="dim")
        yield _table(_TOTALS, list(_total_rows(plan)), options.max_width)
        for heading, lines in _lists(plan):
            yield Text(f" {heading}", style="bold yellow")
            for line in lines:
                yield Padding(Text(line), (0, 0, 0, 3))
            yield Text()


def _site_table(plan: Plan, width: int) -> Iterator[RenderableType]:
    columns, rows = _without_empty(list(_rows(plan)))
    if _table_width(column_widths(columns, rows)) <= width:
        yield _table(columns, rows, width)
        return
    columns, rows = _without_empty(list(_rows(plan, short=True)))
    missing = []
    for name in _EXPENDABLE:
        least = map(min, column_widths(columns, rows), (_NARROWEST.get(c, 99) for c in columns))
        if _table_width(least) > width and name in columns:
            columns, rows = drop_columns(columns, rows, {name})
            missing.append(name)
    yield _table(columns, rows, width)
    if missing:
        yield Text(f" a wider terminal also shows: {', '.join(missing)}\n", style="dim")


def _policy_name(plan: Plan) -> str:
    return plan.policy_source or "policy without a file"


def _rows(plan: Plan, *, short: bool = False) -> Iterator[tuple[str, ...]]:
    """One row per weight and module; further uses of a weight are counted in its row."""
    uses: dict[tuple[str, str, str], list[Assignment]] = {}
    for a in plan.assignments:
        if not a.is_kept:
            uses.setdefault((a.site.weight, a.site.path, a.site.op), []).append(a)
    labels = _rule_labels(plan)
    counted = set[str]()
    for group in uses.values():
        first = group[0]
        site = first.site
        decided = _without_file(first.decided_by) if short else str(first.decided_by)
        yield (
            site.name.partition("#")[0] + (f" ×{len(group)}" if len(group) > 1 else ""),
            site.op.replace("conv_transpose", "convT") if short else site.op,
            "×".join(map(str, site.shape)),
            "shared" if site.weight in counted else f"{site.parameters:,}",
            labels[str(first.make_rule())] + (" *" if any(a.fallback for a in group) else ""),
            decided,
            ", ".join(map(_line, first.overrides)),
        )
        counted.add(site.weight)


def _rule_labels(plan: Plan) -> dict[str, str]:
    """Rules by name alone, unless the plan has one rule with different options.

    The options are the matter of the entry beside it, and the totals show them; error transforms
    are always shown.
    """
    names = {str(a.make_rule()): a.rule for a in plan.assignments}
    often = Counter(names.values())
    transformed = {str(a.make_rule()) for a in plan.assignments if "error" in a.options}
    return {
        full: full if often[name] > 1 or full in transformed else name
        for full, name in names.items()
    }


def _line(decision: Decision) -> str:
    """The line number with its colon, or the name of an entry that has none."""
    _, colon, line = decision.location.rpartition(":")
    return f"{colon}{line}" or decision.name


def _without_file(decision: Decision) -> str:
    return f"{_line(decision)} {decision.name}" if decision.location else decision.name


def _kept_lines(plan: Plan) -> list[str]:
    kept = {(a.site.op, a.site.weight) for a in plan.assignments if a.is_kept}
    counts = Counter(kind for kind, _ in kept)
    return [
        f"{_KEPT_WORDS[kind]}, which keep bp: {counts[kind]} (see op: {kind})"
        for kind in KEPT
        if counts[kind]
    ]


def _total_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    for total in plan.totals():
        yield (
            total.rule,
            f"{total.sites:,}",
            f"{total.weights:,}",
            f"{total.parameters:,}",
            f"{total.share:.1%}",
        )


def _lists(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    """Headings and lines of what stands below the tables."""
    rules = dict.fromkeys(a.make_rule() for a in plan.assignments)
    routed = [f"{rule}: {rule.in_words()}" for rule in rules if rule.in_words()]
    if routed:
        yield "Errors that do not come from the layer above", routed
    kept = [f"{a.site.name}, {a.fallback} ({a.decided_by})" for a in plan.assignments if a.fallback]
    if kept:
        yield "Keeps bp although another rule was asked for (*)", kept
    hidden = [_opaque(part) for part in plan.unreachable if part.weights]
    if hidden:
        yield "Applies weights where no rule reaches, keeps bp", hidden
    eager = [_opaque(part) for part in plan.unreachable if not part.weights]
    if eager:
        yield "Runs as it is, outside of the captured islands", eager
    if plan.warnings:
        yield "Warnings", list(plan.warnings)


def _opaque(part: Unreachable) -> str:
    origin = f" ({part.origin})" if part.origin else ""
    weights = f"; weights: {', '.join(part.weights)}" if part.weights else ""
    return f"{part.path or 'the model itself'}: {part.reason}{origin}{weights}"


def _without_empty(rows: Rows) -> tuple[tuple[str, ...], Rows]:
    empty = {name for name, *cells in zip(_COLUMNS, *rows, strict=True) if not any(cells)}
    return drop_columns(_COLUMNS, rows, empty if rows else ())


def _table(columns: Sequence[str], rows: Rows, width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=_PADDING)
    for column in columns:
        side: Literal["left", "right"] = "right" if column in _NUMBERS else "left"
        table.add_column(column, justify=side, style=_STYLES.get(column, ""), no_wrap=True)
    room = width - _table_width([0] * len(columns))
    for row in fit_rows(columns, rows, room, _NARROWEST):
        table.add_row(*map(Text, row))
    return table


def _table_width(cells: Iterable[int]) -> int:
    """Width of a table: one space after each cell, one before and between them."""
    return sum(cell + 2 for cell in cells) + 1


def _markdown_table(columns: Sequence[str], rows: Rows) -> str:
    rule = ["---:" if column in _NUMBERS else "---" for column in columns]
    lines = [columns, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
