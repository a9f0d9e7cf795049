"""A picture as SVG: self-contained, and readable on light and on dark ground."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from fxbio.viz.colours import NEUTRAL
from fxbio.viz.layout import Layout, Point, Rect, lay_out
from fxbio.viz.legend import legend, shortened

if TYPE_CHECKING:
    from fxbio.viz.picture import Edge, Node, Passage, Picture

__all__ = ["STYLE", "svg"]

_MARGIN, _NARROWEST = 24.0, 440.0
_CORNER, _HEAD, _STACKED = 6.0, 4.5, 6.0
_TITLE_ROOM, _BADGE_ROOM, _SUBTITLE_ROOM, _RULE_ROOM = 31, 8, 38, 20
"""Characters that fit into a box, beside its count, and into a passage."""

_TRANSPORTED = {"weights": "W", "signs": "sign", "copies": "copy"}

STYLE = """
svg{font:12px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}
.ground{fill:#fff}
text{fill:#1f2328}
.soft{fill:#656d76}
.head{font-size:18px;font-weight:600}
.path{font:600 12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.small{font-size:11px}
.rule{font:10.5px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.carrier{font-weight:600}
.tiny{font-size:9px}
.mid{text-anchor:middle}
.box{fill:#f6f8fa;stroke:#8c959f}
.end{fill:#fff;stroke:#8c959f}
.forward{fill:none;stroke:#57606a;stroke-width:1.5}
.tip{fill:#57606a}
.back{fill:none;stroke-width:1.8}
.weight{fill:none;stroke:#cf222e;stroke-width:1.5}
.weighttip{fill:#cf222e}
.signs{stroke-dasharray:4 3}
.copies{stroke-dasharray:1.5 2.5}
.direct{stroke-dasharray:7 3}
.idle{stroke-dasharray:3 3;opacity:.6}
@media (prefers-color-scheme:dark){
.ground{fill:#0d1117}
text{fill:#e6edf3}
.soft{fill:#9198a1}
.box{fill:#161b22;stroke:#6e7681}
.end{fill:#0d1117;stroke:#6e7681}
.forward{stroke:#9198a1}
.tip{fill:#9198a1}
.weight{stroke:#ff7b72}
.weighttip{fill:#ff7b72}
}
"""


def svg(picture: Picture) -> str:
    """The picture as the text of an SVG file."""
    layout = lay_out(picture)
    width = max(layout.width, _NARROWEST) + 2 * _MARGIN
    header, top = legend(picture, width - 2 * _MARGIN)
    height = top + layout.height + 2 * _MARGIN
    size = f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{escape(picture.title)}: {escape(picture.subtitle)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="ground" width="{_n(width)}" height="{_n(height)}"/>',
            f'<g transform="translate({_n(_MARGIN)} {_n(_MARGIN)})">{header}</g>',
            f'<g transform="translate({_n(_MARGIN)} {_n(_MARGIN + top)})">',
            *(_edge(picture, layout, edge) for edge in picture.edges),
            *(_node(picture, layout, node) for node in picture.nodes),
            "</g>",
            "</svg>\n",
        ]
    )


def _edge(picture: Picture, layout: Layout, edge: Edge) -> str:
    points = layout.lines[edge]
    if edge.kind == "forward":
        return _arrow(points, 'class="forward"', 'class="tip"')
    colour = picture.colour(edge.rule)
    kind = "back direct" if edge.kind == "direct" else "back"
    return _arrow(points, f'class="{kind}" stroke="{colour}"', f'fill="{colour}"')


def _arrow(points: tuple[Point, ...], line: str, tip: str) -> str:
    """A line with round corners and a tip at its end."""
    (x, y), (bx, by) = points[-1], points[-2]
    dx, dy = _direction((bx, by), (x, y))
    base = (x - dx * 2 * _HEAD, y - dy * 2 * _HEAD)
    left = (base[0] - dy * _HEAD, base[1] + dx * _HEAD)
    right = (base[0] + dy * _HEAD, base[1] - dx * _HEAD)
    head = " ".join(_at(p) for p in (left, (x, y), right))
    return f'<path {line} d="{_path((*points[:-1], base))}"/><polygon {tip} points="{head}"/>'


def _path(points: tuple[Point, ...]) -> str:
    parts = [f"M{_at(points[0])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(_CORNER, _distance(before, corner) / 2, _distance(corner, after) / 2)
        (ax, ay), (cx, cy) = _direction(corner, before), _direction(corner, after)
        start = (corner[0] + ax * radius, corner[1] + ay * radius)
        end = (corner[0] + cx * radius, corner[1] + cy * radius)
        parts.append(f"L{_at(start)}Q{_at(corner)} {_at(end)}")
    return "".join((*parts, f"L{_at(points[-1])}"))


def _direction(a: Point, b: Point) -> Point:
    """The step from a to b along an axis, for all lines run along one."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    return ((dx > 0) - (dx < 0), 0.0) if abs(dx) > abs(dy) else (0.0, (dy > 0) - (dy < 0))


def _distance(a: Point, b: Point) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _node(picture: Picture, layout: Layout, node: Node) -> str:
    rect = layout.nodes[node.id]
    parts = [f'<g class="node" id="{node.id}">']
    if node.kind == "join":
        parts += _join(node, rect)
        if any(node.id in (e.source, e.target) for e in picture.edges if e.kind != "forward"):
            parts.append(_dot(layout.passages[node.id][0]))
    elif node.kind == "box":
        parts += _box(picture, node, rect)
        for passage, place in zip(node.passages, layout.passages[node.id], strict=True):
            parts += _passage(picture, node, passage, rect, place)
    else:
        parts += [_rect(rect, 'class="end" rx="22"'), *_texts(node, rect)]
        if node.kind == "output":
            parts += _error(layout.passages[node.id][0])
    return "".join((*parts, "</g>"))


def _dot(place: Rect) -> str:
    x, y = place.middle
    return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(place.width / 2)}" fill="{NEUTRAL}"/>'


def _join(node: Node, rect: Rect) -> Iterator[str]:
    x, y = rect.middle
    yield f'<circle class="end" cx="{_n(x)}" cy="{_n(y)}" r="{_n(rect.width / 2)}"/>'
    yield _text(x, y + 4, node.title, "mid small")


def _box(picture: Picture, node: Node, rect: Rect) -> Iterator[str]:
    for shift in (_STACKED, _STACKED / 2) if node.repeat > 1 else ():
        yield _rect(
            Rect(rect.x + shift, rect.y + shift, rect.width, rect.height), 'class="box" rx="6"'
        )
    yield _rect(rect, 'class="box" rx="6"')
    total = sum(len(p.sites) for p in node.passages)
    y, inner = rect.y + 4, rect.height - 8
    for passage in node.passages:
        height = inner * len(passage.sites) / total
        colour = picture.colour(passage.rule)
        yield _rect(Rect(rect.x + 4, y, 5, height), f'fill="{colour}"')
        y += height
    yield from _texts(node, rect)


def _texts(node: Node, rect: Rect) -> Iterator[str]:
    """Title and subtitle, and how often the box is repeated."""
    middle = rect.middle[1]
    room = _TITLE_ROOM - (_BADGE_ROOM if node.repeat > 1 else 0)
    yield f"<title>{escape(node.title)}</title>"
    yield _text(rect.x + 17, middle - 4, _shortened_path(node.title, room), "path")
    yield _text(rect.x + 17, middle + 12, shortened(node.subtitle, _SUBTITLE_ROOM), "soft small")
    if node.repeat > 1:
        yield _text(rect.right - 12, middle - 3, f"× {node.repeat}", "head", "end")


def _passage(
    picture: Picture, node: Node, passage: Passage, box: Rect, place: Rect
) -> Iterator[str]:
    colour = picture.colour(passage.rule)
    idle = "" if passage.used and passage.reached else ' class="idle"'
    (x, y) = place.middle
    yield _rect(place, f'rx="{_n(place.height / 2)}" fill="{colour}" fill-opacity=".16"')
    yield _rect(place, f'{idle} rx="{_n(place.height / 2)}" fill="none" stroke="{colour}"')
    yield _text(x, y - 2, passage.carrier, "mid carrier")
    yield _text(x, y + 12, shortened(_caption(node, passage), _RULE_ROOM), "mid rule soft")
    if passage.transports in _TRANSPORTED and passage.used and passage.reached:
        start = (box.right + (_STACKED if node.repeat > 1 else 0.0), y)
        line = f'class="weight {passage.transports}"'
        yield _arrow((start, (place.x, y)), line, 'class="weighttip"')
        yield _text(
            (box.right + place.x) / 2 - 2, y - 4, _TRANSPORTED[passage.transports], "mid tiny soft"
        )


def _caption(node: Node, passage: Passage) -> str:
    if not passage.reached:
        return f"{passage.rule}: no error"
    if len(node.passages) == 1:
        return passage.rule
    count = len(passage.sites) // node.repeat
    return f"{passage.rule} · {count} weight{'s' if count > 1 else ''}"


def _error(place: Rect) -> Iterator[str]:
    (x, y) = place.middle
    yield _rect(place, f'class="end" rx="{_n(place.height / 2)}"')
    yield _text(x, y - 2, "error ∂L/∂y", "mid carrier")
    yield _text(x, y + 12, "of the loss", "mid small soft")


def _rect(rect: Rect, attributes: str) -> str:
    place = f'x="{_n(rect.x)}" y="{_n(rect.y)}"'
    return f'<rect {place} width="{_n(rect.width)}" height="{_n(rect.height)}" {attributes}/>'


def _text(x: float, y: float, text: str, style: str, anchor: str = "") -> str:
    aligned = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text class="{style}" x="{_n(x)}" y="{_n(y)}"{aligned}>{escape(text)}</text>'


def _at(point: Point) -> str:
    return f"{_n(point[0])},{_n(point[1])}"


def _n(value: float) -> str:
    """A number as short as it can be."""
    return f"{value:.1f}".removesuffix(".0")


def _shortened_path(path: str, room: int) -> str:
    """A path of at most so many characters: the last segments tell the most."""
    if len(path) <= room:
        return path
    rest = path[len(path) - room + 1 :]
    head, dot, tail = rest.partition(".")
    return f"…{tail if dot and len(head) < room // 3 else rest}"
