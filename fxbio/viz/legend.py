"""The head of a drawing: its title, what its colours mean, and what its lines mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING

from fxbio.viz.colours import NEUTRAL

if TYPE_CHECKING:
    from fxbio.viz.picture import Picture

__all__ = ["legend", "shortened"]

_ROW, _SAMPLE, _LETTER, _MONO = 20, 26, 5.6, 7.4
_LONGEST = 70


def legend(picture: Picture, width: float) -> tuple[str, float]:
    """The head as SVG, and its height.

    Args:
        picture: whose head it is.
        width: in which it has to fit.
    """
    parts = [
        f'<text class="head" x="0" y="14">{escape(picture.title)}</text>',
        *(
            f'<text class="soft" x="0" y="{14 + row * _ROW}">{escape(line)}</text>'
            for row, line in enumerate(picture.heading, start=1)
        ),
    ]
    below = 36 + len(picture.heading) * _ROW
    rules = ((_swatch(e.colour), *_rule_text(e.rule, e.share)) for e in picture.legend)
    placed, y = _in_rows(rules, below, width)
    parts += placed
    placed, y = _in_rows(_lines(picture), y + _ROW, width)
    return "".join([*parts, *placed]), y + 28.0


def _in_rows(
    items: Iterable[tuple[str, str, float]], top: float, width: float
) -> tuple[list[str], float]:
    """Samples with their texts from left to right, in as many rows as it takes."""
    placed: list[str] = []
    x, y = 0.0, top
    for sample, text, length in items:
        if x and x + _SAMPLE + length > width:
            x, y = 0.0, y + _ROW
        label = f'<text class="small" x="{_SAMPLE}" y="4">{text}</text>'
        placed.append(f'<g transform="translate({x:.0f} {y:.0f})">{sample}{label}</g>')
        x += _SAMPLE + length + 22
    return placed, y


def _rule_text(rule: str, share: float) -> tuple[str, float]:
    name = shortened(rule, _LONGEST)
    percent = f"{share:.1%} of parameters"
    text = f'<tspan class="path">{escape(name)}</tspan> {percent}'
    return text, _MONO * len(name) + _LETTER * (len(percent) + 1)


def _lines(picture: Picture) -> Iterator[tuple[str, str, float]]:
    """The kinds of lines that the picture has."""
    passages = [p for node in picture.nodes for p in node.passages if p.used and p.reached]
    kinds = {p.transports for p in passages}
    samples = [
        ('class="forward"', "forward path", True),
        (f'class="back" stroke="{NEUTRAL}"', "error, coloured by the rule that sends it", True),
        (
            f'class="back direct" stroke="{NEUTRAL}"',
            "error straight from the output",
            any(edge.kind == "direct" for edge in picture.edges),
        ),
        ('class="weight"', "reads the weight (weight transport)", "weights" in kinds),
        ('class="weight signs"', "reads its signs", "signs" in kinds),
        ('class="weight copies"', "reads old copies of it", "copies" in kinds),
    ]
    for attributes, text, present in samples:
        if present:
            yield f'<path {attributes} d="M0,0H20"/>', text, _LETTER * len(text)
    if any(not (p.used and p.reached) for node in picture.nodes for p in node.passages):
        text = "sends no error below"
        size = 'x="0" y="-5" width="20" height="10" rx="5"'
        sample = f'<rect class="idle" {size} fill="none" stroke="{NEUTRAL}"/>'
        yield sample, text, _LETTER * len(text)


def _swatch(colour: str) -> str:
    return f'<rect x="0" y="-6" width="18" height="12" rx="3" fill="{colour}"/>'


def shortened(text: str, room: int) -> str:
    """A text of at most so many characters, without its end where it is longer."""
    return text if len(text) <= room else f"{text[: room - 1]}…"
