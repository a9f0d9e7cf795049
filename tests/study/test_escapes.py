"""Names of modules, rules, axes and studies are text in every format, whatever they hold."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fxbio.errors import RecordError
from fxbio.study import load_results, write_results
from fxbio.study.cells import Cell
from fxbio.study.result_tables import csv_text, latex
from fxbio.study.study_folder import StudyFolder
from fxbio.study.summary import StudyResults, summarise
from fxbio.train.output.run_folder import write_text
from tests.study.results import index, row

NAMES = (
    """"><script>alert('x')</script>""",
    "'><img src=x onerror=alert(1)>",
    "</svg></title><script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "@SUM(A1)",
    "+1+cmd",
    "-1\\input{secret}",
    "\tcmd",
    "\\input{secret}",
    "[2cm]",
    "a\n\\input{secret}",
    "50% & more_$1^2~#{}",
    "{{ 7 * 7 }}",
)


def study(name: str) -> StudyResults:
    """Everything that can have a name has this one."""
    policy = f"# {name}\nversion: 1\ndefault: fa\n"
    cells = (index().cells[0], Cell(name, name, name, policy, "each/a/fa"))
    about = replace(index(), name=name, model=name, metric=name, seeds=(0, 1), cells=cells)
    rows = [row(run, seed, 0.5) for run in ("base", "each/a/fa") for seed in (0, 1)]
    named = [replace(found, metrics={name: 0.5 + 0.1 * k}) for k, found in enumerate(rows)]
    failed = [replace(found, state="failed", error=name) for found in named[3:]]
    return summarise(about, {found.key: found for found in [*named[:3], *failed]})


class Page(HTMLParser):
    """The elements of a page, their attributes and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.said.append(data)


@pytest.mark.parametrize("name", NAMES)
def test_pages_and_plots(tmp_path: Path, name: str) -> None:
    results = study(name)
    StudyFolder(tmp_path).write(results.index, name, "<svg/>")
    write_results(results, tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert "script" not in page.tags
    assert not {a for a in page.attributes if a.startswith("on")}
    assert page.said.count(name) >= 3  # the title, the heading, the study
    plots = list(tmp_path.rglob("*.svg"))
    assert len(plots) >= 2
    for path in plots:
        root = ElementTree.parse(path).getroot()
        assert {element.tag.rpartition("}")[2] for element in root.iter()} <= SHAPES
        links = [e.attrib[key] for e in root.iter() for key in e.attrib if key.endswith("href")]
        assert all(re.match(r"#\w+$|data:image/png;base64,", link) for link in links)
        styles = ["".join(e.itertext()) for e in root.iter() if e.tag.endswith("style")]
        assert all(re.fullmatch(r"[\w\s*{}:;',-]+", style) for style in styles)
    notebook = Page(results._repr_html_())
    assert not {"script", "img"} & notebook.tags
    assert name in notebook.said


SHAPES = {"svg", "title", "style", "defs", "clipPath", "g", "path", "rect", "text", "use", "image"}


@pytest.mark.parametrize("name", NAMES)
def test_spreadsheets_compute_nothing(name: str) -> None:
    rows = list(csv.reader(io.StringIO(csv_text(study(name)))))
    fields = [field for found in rows for field in found]
    formulas = [field for field in fields if field[:1] in tuple("=+-@\t\r") and not number(field)]
    assert not formulas
    assert rows[2][1] in (name, f"'{name}")


def number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d+)?(e[+-]\d+)?", text) is not None


COMMANDS = {
    "centering",
    "caption",
    "label",
    "begin",
    "end",
    "toprule",
    "midrule",
    "bottomrule",
    "pm",
    "Delta",
    "circ",
}
ESCAPES = {"textbackslash", "textasciitilde", "textasciicircum"}


@pytest.mark.parametrize("name", NAMES)
def test_latex_has_only_commands_of_its_own(name: str) -> None:
    lines = [line for line in latex(study(name)).splitlines() if line and line[0] != "%"]
    text = "\n".join(lines)
    assert set(re.findall(r"\\([A-Za-z]+)", text)) <= COMMANDS | ESCAPES
    assert not re.search(r"(?<!\\)[%#~]", text)
    assert not any(line.startswith("[") for line in lines)
    body = [line for line in lines if line.endswith(r"\\")]
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in body if "base" in line}) == 1
    assert len(body) == 3  # headings, the base, the cell
    math = re.findall(r"(?<!\\)\$(.*?)(?<!\\)\$", text)
    assert all(re.fullmatch(r"\\pm|\\Delta|\^\\circ|[+-][\d.]+", found) for found in math)


# Places


@pytest.mark.parametrize(
    "edit",
    [
        {"run": "../../elsewhere"},
        {"run": "/elsewhere"},
        {"run": "each/../../x"},
        {"run": "."},
        {"run": ""},
    ],
)
def test_cells_cannot_leave_the_folder(tmp_path: Path, edit: dict[str, Any]) -> None:
    damage(tmp_path, lambda content: content["cells"][1].update(edit))
    with pytest.raises(RecordError, match="has a place that no study gives"):
        load_results(tmp_path)


@pytest.mark.parametrize("seed", ["0/../../..", "x", None])
def test_seeds_cannot_leave_the_folder(tmp_path: Path, seed: object) -> None:
    damage(tmp_path, lambda content: content.update(seeds=[seed]))
    with pytest.raises(RecordError, match="is damaged"):
        load_results(tmp_path)


@pytest.mark.parametrize("cells", [[], "others"])
def test_a_study_without_its_base_is_damaged(tmp_path: Path, cells: object) -> None:
    damage(
        tmp_path,
        lambda content: content.update(cells=content["cells"][1:] if cells else []),
    )
    for road in (load_results, lambda folder: StudyFolder(folder).check(index())):
        with pytest.raises(RecordError, match="its first cell is not the base"):
            road(tmp_path)


def test_a_study_without_seeds_is_damaged(tmp_path: Path) -> None:
    damage(tmp_path, lambda content: content.update(seeds=[]))
    for road in (load_results, lambda folder: StudyFolder(folder).check(index())):
        with pytest.raises(RecordError, match="it has no seeds"):
            road(tmp_path)


def damage(folder: Path, edit: Any) -> None:
    StudyFolder(folder).write(index(), "", "<svg/>")
    content = json.loads((folder / "study.json").read_text())
    edit(content)
    (folder / "study.json").write_text(json.dumps(content))


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    for name in ("report.html", ".report.html.part"):
        (tmp_path / name).symlink_to(tmp_path / "mine")
    write_text(tmp_path / "report.html", "new")
    assert (tmp_path / "mine").read_text() == "kept"
    assert (tmp_path / "report.html").read_text() == "new"
