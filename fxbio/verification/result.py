"""Comparing every site of a transformed model with the oracle, and with backprop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fxbio.display import plain_text

__all__ = ["SiteVerdict", "Verification"]


@dataclass(frozen=True)
class SiteVerdict:
    """Verdict on one site."""

    site: str
    rule: str
    calls: int
    """How often the site's op ran with gradients."""
    forward_equal: bool
    """Whether every output was bitwise that of the stock function."""
    gradient_error: float
    """Largest difference from the oracle's gradients, relative to their largest entry."""
    differs_from_bp: bool | None
    """Whether the error sent below differs from backprop's; ``None`` where none is sent, either
    because the rule stops it or because the input needs no gradient."""
    problem: str | None
    path: str = ""
    """Where the error did not cross the site: how it came there."""
    gain: float | None = None
    """Norm of the error sent below, by that of the one backprop would send; ``None`` for none."""

    @property
    def ok(self) -> bool:
        """True if nothing is wrong here."""
        return self.problem is None


@dataclass(frozen=True)
class Verification:
    """The verdicts of all rewritten sites."""

    model: str
    rows: tuple[SiteVerdict, ...]
    outputs_equal: bool
    """Whether the whole model's outputs are bitwise those under plain backprop."""
    silent_backprop: tuple[str, ...]
    """Parameters with a planned rule that were applied without one."""
    idle: tuple[str, ...]
    """Planned sites that no error could reach: they did not run, or nothing there learns. Those
    that ran at capture and not on the same inputs now fail besides."""

    @property
    def ok(self) -> bool:
        """True if nothing at all is wrong."""
        seen = bool(self.rows) or not self.idle  # nothing was wrong where nothing ran
        rows_ok = seen and all(row.ok for row in self.rows)
        return rows_ok and self.outputs_equal and not self.silent_backprop

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"ok": self.ok, **asdict(self)}

    def render(self) -> RenderableType:
        """A table for a terminal, failures first; where there are many, successes by rule."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("site", overflow="fold")
        routed = any(row.path for row in self.rows)
        for name in (_ROUTED.get(name, name) if routed else name for name in _COLUMNS):
            table.add_column(name, justify="right" if name in _NUMBERS else "left")
        good = [row for row in self.rows if row.ok]
        for row in (row for row in self.rows if not row.ok):
            table.add_row(*_cells(row))
        rules = dict.fromkeys(row.rule for row in good)
        shown = len(good) > _MANY
        for rule in rules if shown else ():
            table.add_row(*_together([row for row in good if row.rule == rule]))
        for row in () if shown else good:
            table.add_row(*_cells(row))
        return Group(table, Text(), *self._summary())

    def _summary(self) -> Iterator[Text]:
        good = sum(row.ok for row in self.rows)
        yield Text(f"{good} of {len(self.rows)} rewritten sites follow their rule")
        yield Text(
            f"outputs bitwise equal to the original: {'yes' if self.outputs_equal else 'NO'}"
        )
        if self.rows:
            worst = max(row.gradient_error for row in self.rows)
            yield Text(f"largest difference from the oracle's gradients: {worst:.1e} (relative)")
        yield from self._loud()
        for name in self.silent_backprop:
            yield Text(f"silent backprop: {name} was applied without its rule", style="red")
        if self.idle:
            yield Text(f"no error could reach: {', '.join(self.idle)}", style="yellow")

    def _loud(self) -> Iterator[Text]:
        """No fault of a rule, but in a deep network errors may overflow on their way down."""
        loud = {row.site: row.gain for row in self.rows if row.gain and row.gain > _LOUD}
        if loud:
            site = max(loud, key=lambda name: loud[name])
            yield Text(
                f"note: at {len(loud)} of {len(self.rows)} sites the error sent below is more than "
                f"{_LOUD:g} times as large as backprop's, at {site} {loud[site]:.3g} times; "
                "'magnitude: matched' keeps to its size",
                style="yellow",
            )

    def __str__(self) -> str:
        return plain_text(self.render())


_COLUMNS = ("rule", "calls", "forward", "gradient error", "differs from bp", "verdict")
_ROUTED = {"differs from bp": "differs, or how it came"}
_NUMBERS = ("calls", "gradient error")
_LOUD = 4.0
_MANY = 20
"""More sites than this are shown by rule when nothing is wrong with them; JSON has them all."""


def _together(rows: list[SiteVerdict]) -> tuple[str | Text, ...]:
    """One line for all sites of a rule."""
    differ = sum(row.differs_from_bp is True for row in rows)
    silent = sum(row.differs_from_bp is None and not row.path for row in rows)
    paths = Counter(row.path for row in rows if row.path)
    return (
        f"{len(rows)} sites",
        Text(rows[0].rule),
        str(sum(row.calls for row in rows)),
        "bitwise",
        f"≤ {max(row.gradient_error for row in rows):.1e}",
        "; ".join(
            [
                *([f"{differ} yes"] if differ or not (silent or paths) else []),
                *([f"{silent} send none"] if silent else []),
                *(f"{count} {path}" for path, count in paths.items()),
            ]
        ),
        Text("ok", style="green"),
    )


def _cells(row: SiteVerdict) -> tuple[str | Text, ...]:
    differs = {True: "yes", False: "no", None: row.path or "no error sent"}[row.differs_from_bp]
    return (
        Text(row.site),
        Text(row.rule),  # brackets in it are no markup
        str(row.calls),
        "bitwise" if row.forward_equal else "DIFFERS",
        f"{row.gradient_error:.1e}",
        differs,
        Text("ok", style="green") if row.ok else Text(str(row.problem), style="red"),
    )
