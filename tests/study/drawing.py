"""What is read off a figure."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure
from matplotlib.text import Text

__all__ = ["LONG", "inside", "legend"]

LONG = "features.block0.layers.attention.projection"


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def inside(figure: Figure) -> Iterator[Text]:
    """All texts that show, none of which may leave the figure."""
    page = figure.get_window_extent()
    for text in figure.findobj(Text):
        box = text.get_window_extent()
        if text.get_visible() and text.get_text() and box.width > 0:
            assert box.x0 > -1, text
            assert box.y0 > -1, text
            assert box.x1 < page.x1 + 1, text
            assert box.y1 < page.y1 + 1, text
            yield text
