"""Results that are tables: on a terminal, in a notebook, and as a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fxbio.display import data_frame, html_table, plain_text

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["TableResult"]


class TableResult:
    """Protocol of results with ``records``, flat rows with the same keys, and a rich ``render``."""

    def records(self) -> list[dict[str, Any]]:
        """One dictionary for each row."""
        raise NotImplementedError

    def render(self) -> RenderableType:
        """For a terminal."""
        raise NotImplementedError

    def caption(self) -> str:
        """One line on the whole table."""
        return type(self).__name__

    def to_pandas(self) -> Any:
        """The rows as a ``pandas.DataFrame``.

        Raises:
            ConfigError: when pandas is not installed.
        """
        return data_frame(self.records())

    def _repr_html_(self) -> str:
        rows = self.records()
        cells = ([_cell(value) for value in row.values()] for row in rows)
        return html_table(self.caption(), list(rows[0]) if rows else [], cells)

    def __str__(self) -> str:
        return plain_text(self.render())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
