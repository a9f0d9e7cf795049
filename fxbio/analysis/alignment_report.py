"""Results of an alignment measurement: a row for each site."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fxbio.analysis.tables import TableResult

__all__ = ["Alignment", "AlignmentRow"]


@dataclass(frozen=True)
class AlignmentRow:
    """One site. ``None`` stands for what makes no sense under its rule."""

    site: str
    rule: str
    weight_angle: float | None
    """Degrees between W and B, in the layout of W."""
    norm_ratio: float | None
    """``‖B‖ / ‖W‖``."""
    sign_concordance: float | None
    """Share of equal signs in W and B, of the entries where neither is zero; chance is ½."""
    zeros: float | None
    """Share of the other entries."""
    error_angle: float | None
    """Degrees between the errors that the rule and backprop send below, given the same error."""
    gradient_cosine: float | None
    """Between the gradients of the weight under the rule and under backprop of the whole model."""
    backprop_norm: float | None
    """Norm of that gradient under backprop."""
    valid: bool
    """Whether that norm is large enough for the cosine to be more than rounding."""


@dataclass(frozen=True)
class Alignment(TableResult):
    """Closeness of the errors and updates of the rules to those of backprop, on one batch."""

    model: str
    rows: tuple[AlignmentRow, ...]
    seconds: float
    """What the measurement took."""
    step_seconds: float
    """A forward and backward pass under backprop, in the same run."""
    floor: float
    """Norm of backprop's gradient below which a cosine is marked invalid."""

    @property
    def cost(self) -> float:
        """Time of the measurement, in forward and backward passes."""
        return self.seconds / self.step_seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "cost": self.cost}

    def records(self) -> list[dict[str, Any]]:
        """One flat row for each site."""
        return [asdict(row) for row in self.rows]

    def caption(self) -> str:
        """Model and cost."""
        took = f"it took {self.seconds:.2g} s, as {self.cost:.2g} forward and backward passes do"
        return f"{self.model}, one batch; {took}"

    def render(self) -> RenderableType:
        """A table for a terminal."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in _COLUMNS:
            table.add_column(name, justify="left" if name in ("site", "rule") else "right")
        for row in self.rows:
            table.add_row(*map(Text, _cells(row)))
        lines = [Text(_LEGEND), Text(self.caption())]
        if not all(row.valid for row in self.rows):
            lines.insert(
                0, Text(f"(…): backprop's gradient is below {self.floor:.1e}, mere rounding")
            )
        return Group(table, *lines)


_LEGEND = (
    "signs: the share that W and B have in common; ∠ error: between what the site sends below and "
    "what backprop would;\ngradient: of the weight, under the rules and under backprop (bp)"
)
_COLUMNS = ("site", "rule", "∠ W B", "|B|/|W|", "signs", "∠ error", "cos gradient", "|g of bp|")


def _cells(row: AlignmentRow) -> tuple[str, ...]:
    cosine = _number(row.gradient_cosine, ".3f")
    return (
        row.site,
        row.rule,
        _number(row.weight_angle, ".1f", "°"),
        _number(row.norm_ratio, ".3g"),
        _number(row.sign_concordance, ".3f"),
        _number(row.error_angle, ".1f", "°"),
        cosine if row.valid or not cosine else f"({cosine})",
        _number(row.backprop_norm, ".2e"),
    )


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"
