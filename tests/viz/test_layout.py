"""Positions: nothing overlaps, and lines keep clear of boxes."""

from __future__ import annotations

import itertools

import pytest
from torch import nn

from fxbio.viz.layout import Layout, Rect, lay_out
from fxbio.viz.picture import Picture
from tests.viz.nets import Pyramid, Residual, Shared, chain, picture

MIXED = "default: usf\nrules: [{where: {module: '**.down'}, rule: fa}]"
PICTURES = {
    "chain": lambda: picture(chain(4), "fa", "site"),
    "direct": lambda: picture(chain(4), "dfa", "site"),
    "residual": lambda: picture(Residual(), MIXED, "site"),
    "blocks": lambda: picture(Residual(), MIXED),
    "shared": lambda: picture(Shared(), "bp", "site"),
    "pyramid": lambda: picture(Pyramid(), "bp", "site"),
    "sources": lambda: picture(
        Pyramid(),
        "default: bp\nrules: [{where: {module: 'stages.**'}, rule: dfa, "
        "with: {source: 'heads.*'}}, {where: {module: 'lateral.0'}, rule: dfa, "
        "with: {source: 'heads.*'}}]",
    ),
}


@pytest.fixture(params=PICTURES)
def drawn(request: pytest.FixtureRequest) -> Picture:
    made = PICTURES[request.param]()
    assert isinstance(made, Picture)
    return made


def shapes(layout: Layout) -> list[Rect]:
    return [*layout.nodes.values(), *(p for row in layout.passages.values() for p in row)]


def overlap(a: Rect, b: Rect) -> bool:
    return a.x < b.right and b.x < a.right and a.y < b.bottom and b.y < a.bottom


def test_no_boxes_overlap(drawn: Picture) -> None:
    for a, b in itertools.combinations(shapes(lay_out(drawn)), 2):
        assert not overlap(a, b), (a, b)


def test_no_line_crosses_a_box(drawn: Picture) -> None:
    layout = lay_out(drawn)
    for edge, points in layout.lines.items():
        for (ax, ay), (bx, by) in itertools.pairwise(points):
            assert ax == bx or ay == by, edge
            line = Rect(min(ax, bx), min(ay, by), abs(ax - bx) or 0.01, abs(ay - by) or 0.01)
            for box in shapes(layout):
                inner = Rect(box.x + 0.5, box.y + 0.5, box.width - 1, box.height - 1)
                assert not overlap(line, inner), (edge, box)


def test_everything_is_inside_of_the_drawing(drawn: Picture) -> None:
    layout = lay_out(drawn)
    for rect in shapes(layout):
        assert rect.x >= 0
        assert rect.y >= 0
        assert rect.right <= layout.width
        assert rect.bottom <= layout.height
    for points in layout.lines.values():
        assert all(0 <= x <= layout.width and 0 <= y <= layout.height for x, y in points)


def test_the_main_chain_is_straight() -> None:
    drawn = picture(Residual(), "bp", "site")
    layout = lay_out(drawn)
    centres = {layout.nodes[node.id].middle[0] for node in drawn.nodes}
    assert len(centres) == 1


def test_forward_runs_down_and_errors_run_up(drawn: Picture) -> None:
    layout = lay_out(drawn)
    order = {node.id: place for place, node in enumerate(drawn.nodes)}
    for edge, points in layout.lines.items():
        if order[edge.source] < order[edge.target]:
            assert points[0][1] < points[-1][1], edge
        else:
            assert points[0][1] > points[-1][1], edge


def test_a_cycle_of_modules_is_drawn() -> None:
    class Alternating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = (nn.Linear(6, 6) for _ in range(3))

        def forward(self, x):  # type: ignore[no-untyped-def]
            for _ in range(2):
                x = self.b(self.a(x).tanh()).tanh()
            return self.head(x)

    made = picture(Alternating(), "bp")
    pairs = {(made.node(e.source).title, made.node(e.target).title) for e in made.edges}
    assert ("b", "a") in pairs
    layout = lay_out(made)
    assert all(len(points) > 1 for points in layout.lines.values())
