"""Results that are tables: on a terminal, in a notebook, and as a data frame."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from fxbio.errors import FxbioError
from fxbio.text import plain_text

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["TableResult"]


class TableResult:
    """What has ``records``, flat rows with the same keys, and ``render``, a rich renderable."""

    def records(self) -> list[dict[str, Any]]:
        """One dictionary for each row."""
        raise NotImplementedError

    def render(self) -> RenderableType:
        """For a terminal."""
        raise NotImplementedError

    def to_pandas(self) -> Any:
        """The rows as a ``pandas.DataFrame``.

        Raises:
            FxbioError: when pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise FxbioError("pandas is not installed", help="pip install pandas") from error
        return pandas.DataFrame(self.records())

    def _repr_html_(self) -> str:
        """For notebooks."""
        rows = self.records()
        names = list(rows[0]) if rows else []
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = "".join(
            f"<tr>{''.join(f'<td>{_cell(row[name])}</td>' for name in names)}</tr>" for row in rows
        )
        caption = html.escape(self.caption())
        return (
            f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )

    def caption(self) -> str:
        """One line on the whole table."""
        return type(self).__name__

    def __str__(self) -> str:
        return plain_text(self.render())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))
