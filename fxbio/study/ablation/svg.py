"""The few shapes that plots are made of, as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal

__all__ = ["Point", "band", "circle", "document", "line", "polyline", "rect", "text"]

Point = tuple[float, float]

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
    tip = f"<title>{escape(title)}</title>" if title else ""
    place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
    return f'<rect {place} fill="{fill}">{tip}</rect>'


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


def polyline(points: Sequence[Point], colour: str) -> str:
    """A curve through points."""
    path = " ".join(map(_at, points))
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'


def band(above: Sequence[Point], below: Sequence[Point], colour: str) -> str:
    """The area between two curves."""
    path = " ".join(map(_at, [*above, *reversed(below)]))
    return f'<polygon points="{path}" fill="{colour}" fill-opacity="0.15"/>'


def circle(at: Point, colour: str, title: str) -> str:
    """A dot; its title shows when a pointer rests on it."""
    place = f'cx="{_n(at[0])}" cy="{_n(at[1])}" r="3.5"'
    return f'<circle {place} fill="{colour}"><title>{escape(title)}</title></circle>'


def _at(point: Point) -> str:
    return f"{_n(point[0])} {_n(point[1])}"


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
