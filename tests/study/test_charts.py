"""How charts are written: the same bytes each time, at their width, with text as text."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from hashlib import sha256
from itertools import combinations

import matplotlib
import pytest
from PIL import Image

from fxbio.study.charts import chart_style, new_figure, rendered, rule_styles, seed_dashes
from tests.colour_vision import BLIND, difference

NS = "{http://www.w3.org/2000/svg}"
NAMES = ["a$b$ <x> & 'y'", "0.123456 1.23456789", "Δ ± °; font-family: a; L 1"]


def chart(format: str, width: float = 8.5) -> bytes:
    with chart_style():
        figure = new_figure(width, 5.0, constrained=True)
        axes = figure.subplots()
        axes.errorbar([0, 1], [0.5, 0.123456], yerr=[0.1, 0.2], marker="o")
        axes.set(xlabel=NAMES[0], ylabel=NAMES[1], title=NAMES[2])
        return rendered(figure, format, "<title> & more")


ELSEWHERE = """
import json, sys
from hashlib import sha256
from itertools import combinations
from tests.study.test_charts import chart
import fxbio.study.figures
digests = {format: sha256(chart(format)).hexdigest() for format in ("svg", "pdf", "png")}
print(json.dumps([digests, [m for m in sys.modules if "pyplot" in m or "tkinter" in m]]))
"""


@pytest.fixture(scope="module")
def elsewhere() -> tuple[dict[str, str], list[str]]:
    """What another process makes of the same chart, and what it has imported for that."""
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], check=True, capture_output=True)
    digests, modules = json.loads(done.stdout)
    return digests, modules


@pytest.mark.parametrize("format", ["svg", "pdf", "png"])
def test_a_chart_is_the_same_each_time_whatever_the_user_has_set(
    format: str, elsewhere: tuple[dict[str, str], list[str]]
) -> None:
    found = chart(format)
    theirs = {"font.size": 30, "svg.fonttype": "path", "savefig.dpi": 10, "lines.linewidth": 9}
    with matplotlib.rc_context(theirs):
        assert chart(format) == found
        assert matplotlib.rcParams["font.size"] == 30
    assert sha256(found).hexdigest() == elsewhere[0][format]
    assert not re.search(rb"Date|20\d\d-\d\d|D:20\d\d", found)


def test_no_window_and_no_global_state(elsewhere: tuple[dict[str, str], list[str]]) -> None:
    assert elsewhere[1] == []


def of_svg(data: bytes) -> float:
    return float(ElementTree.fromstring(data).attrib["width"].removesuffix("pt")) / 72 * 2.54


def of_pdf(data: bytes) -> float:
    box = re.search(rb"/MediaBox \[\s*0 0 ([\d.]+) ", data)
    assert box
    return float(box[1]) / 72 * 2.54


def of_png(data: bytes) -> float:
    image = Image.open(io.BytesIO(data))
    return float(image.width / image.info["dpi"][0] * 2.54)


@pytest.mark.parametrize("width", [6.0, 8.5, 17.0])
@pytest.mark.parametrize(("format", "read"), [("svg", of_svg), ("pdf", of_pdf), ("png", of_png)])
def test_it_has_the_width_that_it_was_given(
    format: str, read: Callable[[bytes], float], width: float
) -> None:
    assert read(chart(format, width)) == pytest.approx(width, abs=0.02)


def test_a_png_has_the_dots_that_journals_ask_for() -> None:
    assert Image.open(io.BytesIO(chart("png"))).info["dpi"][0] == pytest.approx(300, abs=0.1)


def test_text_is_text_and_stays_as_it_is() -> None:
    root = ElementTree.fromstring(chart("svg"))
    texts = {"".join(text.itertext()) for text in root.iter(f"{NS}text")}
    assert set(NAMES) <= texts
    titles = [title.text for title in root.iter(f"{NS}title")]
    assert titles == ["<title> & more"]


def test_a_pdf_has_fonts_that_can_be_edited() -> None:
    found = chart("pdf")
    assert b"/Type3" not in found
    assert b"/Subtype /Type0" in found


def test_rules_and_seeds_are_told_apart() -> None:
    styles = rule_styles(["fa", "usf", "fa", "dfa", "frozen", "kp", "dtp", "dgl"])
    assert list(styles) == ["fa", "usf", "dfa", "frozen", "kp", "dtp", "dgl"]
    for field in ("colour", "marker"):
        assert len({getattr(style, field) for style in styles.values()}) == 7
    assert len({str(dashes) for dashes in seed_dashes([3, 1, 4, 15, 9]).values()}) == 5


@pytest.mark.parametrize("kind", BLIND)
def test_colours_of_rules_differ_for_colour_blind_eyes(kind: str) -> None:
    colours = [style.colour for style in rule_styles(map(str, range(7))).values()]
    assert min(difference(a, b, kind) for a, b in combinations(colours, 2)) > 0.1
