"""Every format is well formed, self-contained, the same each time, and escapes what it is given."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from torch import nn

from fxbio.errors import ConfigError
from fxbio.viz import FORMATS, Picture, save
from fxbio.viz.dot import dot
from fxbio.viz.html import html
from fxbio.viz.svg import svg
from tests.viz.nets import Hidden, Pyramid, Residual, chain, picture

NASTY = "</script><&>\"'\\#"
NS = "{http://www.w3.org/2000/svg}"


def nasty() -> Picture:
    model = chain(2)
    model.add_module(NASTY, nn.Linear(6, 6))
    rules = (
        "default: bp\nrules: [{name: '<b>', where: {first: 1}, rule: fa, with: {magnitude: 2}}, "
        "{where: {last: 1}, rule: fa}]"
    )
    return picture(model, rules)


PICTURES: dict[str, Callable[[], Picture]] = {
    "blocks": lambda: picture(Residual(), "usf"),
    "pyramid": lambda: picture(Pyramid(), "fa", "site"),
    "direct": lambda: picture(chain(3), "dfa"),
    "nasty": nasty,
}


@pytest.fixture(params=PICTURES)
def drawn(request: pytest.FixtureRequest) -> Picture:
    return PICTURES[request.param]()


class Page(HTMLParser):
    """Collects scripts, ids and what the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.ids: list[str] = []
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.loaded += [values[key] or "" for key in ("src", "href") if key in values]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data


@pytest.mark.parametrize("ending", ["svg", "html", "dot"])
def test_what_no_rule_reaches_is_named(ending: str, tmp_path: Path) -> None:
    """The recurrent layer sends its error through its weights, and has no box that says so."""
    file = tmp_path / f"net.{ending}"
    save(picture(Hidden(), "fa"), file)
    assert "no rule reaches recurrent: bp, and no box" in file.read_text()
    save(picture(chain(2), "fa"), file)
    assert "no rule reaches" not in file.read_text()


def test_svg_is_xml_with_all_its_nodes(drawn: Picture) -> None:
    root = ElementTree.fromstring(svg(drawn))
    groups = [g.get("id") for g in root.iter(f"{NS}g") if g.get("class") == "node"]
    assert groups == [node.id for node in drawn.nodes]
    words = [text.text for text in root.iter(f"{NS}text")]
    for passage in (p for node in drawn.nodes for p in node.passages):
        assert passage.carrier in words
    named = {"".join(title.itertext()) for title in root.iter(f"{NS}title")}
    assert named >= {node.title for node in drawn.nodes if node.kind == "box"}


def test_svg_has_the_colour_of_every_rule(drawn: Picture) -> None:
    text = svg(drawn)
    assert all(entry.colour in text for entry in drawn.legend)


def test_svg_draws_what_is_transported() -> None:
    text = svg(picture(chain(3), "default: usf\nrules: [{where: {last: 1}, rule: bp}]"))
    root = ElementTree.fromstring(text)
    lines = Counter(path.get("class") for path in root.iter(f"{NS}path"))
    # One of each is in the legend; the first layer sends nothing, so nothing is read of it.
    assert lines["weight signs"] == 1 + 1
    assert lines["weight weights"] + lines["weight"] == 1 + 1


def test_html_holds_the_drawing_and_the_details(drawn: Picture) -> None:
    page = Page(html(drawn))
    assert page.loaded == []
    data = json.loads(page.scripts[0])
    assert list(data) == [node.id for node in drawn.nodes]
    assert set(data) <= set(page.ids)
    for node in drawn.nodes:
        assert data[node.id]["title"] == node.title
        assert [site["site"] for site in data[node.id]["sites"]] == [d.site for d in node.details]
    assert len(page.scripts) == 2


def test_html_needs_no_network(drawn: Picture) -> None:
    outside = re.findall(r"https?://[^\"' ]+", html(drawn))
    assert set(outside) == {"http://www.w3.org/2000/svg"}


_STATEMENT = re.compile(
    r"""\s*(?:
        digraph\s+ID\s*\{ | \} | \{\s*rank=same;(?:\s*\w+;)+\s*\}
        | \w+\s*=\s*(?:ID|\w+);
        | (?:node|edge|\w+(?:\s*->\s*\w+)?)(?:\s*\[\w+=(?:ID|\w+)(?:,\s*\w+=(?:ID|\w+))*\])?;
    )\s*""",
    re.VERBOSE,
)


def test_dot_is_made_of_statements(drawn: Picture) -> None:
    text = re.sub(r'"(?:[^"\\]|\\.)*"', "ID", dot(drawn))
    place = 0
    while place < len(text):
        match = _STATEMENT.match(text, place)
        assert match is not None, text[place : place + 80]
        place = match.end()
    assert text.count("{") == text.count("}")
    for edge in drawn.edges:
        ends = (edge.source, edge.target)
        written = " -> ".join(ends) if edge.kind == "forward" else "_back -> ".join(ends[::-1])
        assert f"  {written}" in text


def test_names_are_escaped() -> None:
    drawn = nasty()
    assert NASTY in [node.title for node in drawn.nodes]
    assert "</script><" not in html(drawn).replace("</script>\n<script>", "")
    assert NASTY not in svg(drawn)
    assert "\\\"'\\\\#" in dot(drawn)


@pytest.mark.parametrize("ending", FORMATS)
def test_pictures_are_the_same_each_time(ending: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(picture(Pyramid(), "fa", "site"), tmp_path / f"{name}{ending}")
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_an_ending_that_is_no_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        save(picture(chain(2), "fa"), tmp_path / "net.sgv")
    assert str(caught.value).splitlines() == [
        "no picture is written to 'net.sgv': '.sgv' is no format",
        "  = note: did you mean '.svg'?",
        "  = note: endings: .svg, .html, .dot",
        "  = help: for instance: -o net.svg",
    ]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be written to .*No such file"):
        save(picture(chain(2), "fa"), tmp_path / "nowhere" / "net.svg")
