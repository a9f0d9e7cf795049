"""Style of the charts of studies, written by matplotlib: the same bytes each time."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Literal

import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

__all__ = [
    "ALARM",
    "INK",
    "SMALL",
    "SOFT",
    "LineStyle",
    "RuleStyle",
    "chart_style",
    "inches",
    "legend_columns",
    "new_figure",
    "plain",
    "rendered",
    "rule_styles",
    "seed_dashes",
    "shortened",
    "text_width",
]

LineStyle = Literal["-"] | tuple[float, Sequence[float]]
"""As matplotlib takes it: a whole line, or an offset and dashes in widths of the line."""

INK, SOFT, ALARM = "#1f2328", "#656d76", "#b2182b"
"""Of text, of what explains, of what went wrong."""

SMALL = 6.5
"""Points of what stands inside of a chart; the rest has 7 or 8."""

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Of Okabe and Ito: they differ for colour-blind eyes too. Markers differ for the printer's."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_DASHES: tuple[LineStyle, ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1.2)),
    (0, (4, 1.2, 1, 1.2)),
    (0, (8, 2)),
)

_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 7,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # the first comes with matplotlib
    "font.size": 7,
    "grid.color": "#d8dee4",
    "grid.linewidth": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "lines.markersize": 4,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "svg.fonttype": "none",
    "svg.hashsalt": "fxbio",
    "text.color": INK,
    "text.parse_math": False,  # a $ in the name of a layer is a $
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}
_NO_DATE: Mapping[str, Mapping[str, str | None]] = {
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
    "png": dict.fromkeys(("Software",)),
}
_NUMBER = re.compile(r"-?\d+\.\d+")
_DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'
_FONTS = "'DejaVu Sans',Verdana,sans-serif"
_SHORTER = (
    (re.compile(r'<g id="[^"]*"'), "<g"),
    (re.compile(r" font-family: [^;\"]*;"), ""),
    (re.compile(r' transform="rotate\(-0 [^)]*\)"'), ""),
    (re.compile(r" *\nL "), " "),  # after the first point lines are meant
)
_LONGEST = 28
"""Letters of a name in a wide figure."""


@dataclass(frozen=True)
class RuleStyle:
    """Style that tells a rule from others."""

    colour: str
    marker: str


@contextmanager
def chart_style() -> Iterator[None]:
    """The settings that charts are made and written under, whatever those of the user are."""
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # the fonts of whoever opens an SVG have more letters
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def new_figure(width: float, height: float, *, constrained: bool) -> Figure:
    """An empty figure, which no window and no global state knows of.

    Args:
        width: in cm.
        height: in cm.
        constrained: whether matplotlib makes room for labels and legends.
    """
    size = (inches(width), inches(height))
    return Figure(figsize=size, layout="constrained" if constrained else None)


def inches(centimetres: float) -> float:
    """The unit of matplotlib."""
    return centimetres / 2.54


def rule_styles(rules: Iterable[str]) -> dict[str, RuleStyle]:
    """A style for each rule, in the order of the study: the same in all its charts."""
    return {
        rule: RuleStyle(_COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)])
        for k, rule in enumerate(dict.fromkeys(rules))
    }


def legend_columns(handles: Iterable[Artist], width: float) -> int:
    """Entries of a legend that stand beside each other in a figure of so many cm."""
    widest = max((text_width(str(handle.get_label())) for handle in handles), default=0.0)
    return max(1, int(width / (widest + 1.2)))  # the sample, and what is around it


def seed_dashes(seeds: Sequence[int]) -> dict[int, LineStyle]:
    """The dashes that a seed is told by, the same in all panels."""
    return {seed: _DASHES[k % len(_DASHES)] for k, seed in enumerate(seeds)}


def plain(name: str) -> str:
    """A name on one line, without what XML and fonts do not know."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())


def shortened(name: str, width: float) -> str:
    """A name that fits into a figure of so many cm: without its middle where it is long."""
    name, longest = plain(name), min(_LONGEST, int(3 * width))
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def text_width(text: str, size: float = 7.0) -> float:
    """Width of a line of text, in cm."""
    return float(TextPath((0, 0), text, size=size).get_extents().width) / 72 * 2.54 if text else 0.0


def rendered(figure: Figure, format: str, title: str) -> bytes:
    """The figure as the content of a file, without date and version.

    Args:
        figure: drawn under ``chart_style``, which still holds.
        format: ``svg``, ``pdf`` or ``png``.
        title: for readers who cannot see it; SVG has it.
    """
    stream = io.BytesIO()
    figure.savefig(stream, format=format, metadata=dict(_NO_DATE[format]))
    data = stream.getvalue()
    return _compact(data.decode(), title).encode() if format == "svg" else data


def _compact(svg: str, title: str) -> str:
    """A third of the size: fonts once, hundredths of a point, no names of groups."""
    svg = re.sub(r"<[^>]+>", _compact_tag, svg[svg.index("<svg") :])
    head = f"<title>{escape(plain(title))}</title>\n<style>text{{font-family:{_FONTS}}}</style>"
    svg = re.sub(r"<svg [^>]*>", lambda tag: f"{tag[0]}\n{head}", svg, count=1)
    return _DECLARATION + re.sub(r"\n +", "\n", svg)


def _compact_tag(tag: re.Match[str]) -> str:
    text = tag[0]
    for pattern, short in _SHORTER:
        text = pattern.sub(short, text)
    return _NUMBER.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), text)
