"""The few shapes that plots are made of, as SVG."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import Literal

__all__ = [
    "ALARM",
    "COLOURS",
    "SOFT",
    "Point",
    "band",
    "circle",
    "document",
    "line",
    "polyline",
    "rect",
    "text",
    "width_of",
]

Point = tuple[float, float]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Of Okabe and Ito: they differ for colour-blind eyes too."""
SOFT = "#656d76"
"""Of what explains."""
ALARM = "#b2182b"
"""Of what went wrong."""
_INK = "#1f2328"
_FONT = "system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif"


def document(width: float, height: float, title: str, shapes: Iterable[str]) -> str:
    """A picture on white ground."""
    size = f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{_FONT}">',
            f"<title>{escape(title)}</title>",
            rect(0, 0, width, height, "#ffffff"),
            *shapes,
            "</svg>\n",
        ]
    )


def rect(x: float, y: float, width: float, height: float, fill: str, title: str = "") -> str:
    """A filled rectangle; its title shows when a pointer rests on it."""
    place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
    return f'<rect {place} fill="{fill}">{_tip(title)}</rect>'


def text(
    at: Point,
    content: str,
    *,
    anchor: Literal["start", "middle", "end"] = "start",
    size: float = 12,
    fill: str = _INK,
    turned: float = 0,
    bold: bool = False,
) -> str:
    """A line of text, turned about its anchor by so many degrees."""
    turn = f' transform="rotate({_n(turned)} {_at(at)})"' if turned else ""
    weight = ' font-weight="600"' if bold else ""
    place = f'x="{_n(at[0])}" y="{_n(at[1])}" font-size="{_n(size)}" text-anchor="{anchor}"'
    return f'<text {place} fill="{fill}"{weight}{turn}>{escape(content)}</text>'


def line(start: Point, end: Point, colour: str, *, dashed: bool = False) -> str:
    """A thin line."""
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    ends = f'x1="{_n(start[0])}" y1="{_n(start[1])}" x2="{_n(end[0])}" y2="{_n(end[1])}"'
    return f'<line {ends} stroke="{colour}"{dash}/>'


def polyline(points: Sequence[Point], colour: str, width: float = 2) -> str:
    """A curve through points. Each is told from the one before it, which is short."""
    places = [(round(10 * x), round(10 * y)) for x, y in points]
    moves = (
        f"{_short((c - a) / 10)} {_short((d - b) / 10)}" for (a, b), (c, d) in pairwise(places)
    )
    path = f"M{_at(points[0])}l{' '.join(moves)}".replace(" -", "-")
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{_n(width)}"/>'


def band(above: Sequence[Point], below: Sequence[Point], colour: str) -> str:
    """The area between two curves."""
    path = " ".join(map(_at, [*above, *reversed(below)]))
    return f'<polygon points="{path}" fill="{colour}" fill-opacity="0.15"/>'


def circle(at: Point, colour: str, title: str = "", radius: float = 3.5) -> str:
    """A dot; its title shows when a pointer rests on it."""
    place = f'cx="{_n(at[0])}" cy="{_n(at[1])}" r="{_n(radius)}"'
    return f'<circle {place} fill="{colour}">{_tip(title)}</circle>'


def width_of(content: str, size: float) -> float:
    """About how wide a line of text is."""
    return 0.56 * size * len(content)


def _tip(title: str) -> str:
    return f"<title>{escape(title)}</title>" if title else ""


def _at(point: Point) -> str:
    return f"{_n(point[0])} {_n(point[1])}"


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _short(number: float) -> str:
    """As SVG allows it, without a zero before the point."""
    return re.sub(r"^(-?)0\.", r"\1.", _n(number))
