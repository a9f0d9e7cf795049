from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from fxbio.study import write_results
from fxbio.study.cells import Cell
from fxbio.study.markdown import markdown
from fxbio.study.plots import Plot
from fxbio.study.result_tables import csv_text, latex, tables
from fxbio.study.rows import append_row, read_rows, repair_rows
from fxbio.study.study_folder import Index, StudyFolder
from fxbio.study.summary import summarise
from tests.study.results import index, results, row


def test_mean_deviation_and_delta_by_hand() -> None:
    base, a, b, below = results().lines
    assert (base.mean, base.std, base.delta, base.n) == pytest.approx((0.9, 0.1, None, 3))
    # differences to the base with the same seed: -0.3 and -0.2
    assert (a.mean, a.std, a.delta) == pytest.approx((0.6, 0.02**0.5, -0.25))
    assert (a.n, a.steps, a.angle, a.note) == (2, 10, 85.0, "1 failed")
    assert (b.mean, b.std, b.delta, b.n, b.note) == (None, None, None, 0, "1 diverged, 2 to do")
    assert (below.mean, below.delta) == (a.mean, a.delta)


def test_a_rule_that_changes_nothing_is_told_of() -> None:
    rows = [row("base", 0, 0.8), row("base", 1, 0.9), row("each/a/fa", 0, 0.8)]
    for last, expected in ((0.9, "1 to do, as the base"), (0.91, "1 to do")):
        found = [*rows, row("each/a/fa", 1, last)]
        base, a, b, below = summarise(index(), {r.key: r for r in found}).lines
        assert (base.note, b.note) == ("1 to do", "3 to do")
        assert (a.note, below.note) == (expected, expected)


def test_markdown() -> None:
    plot = Plot("top1 over the epochs", "curves/below/top1.svg", "<svg/>")
    text = markdown(results(), {"below": [plot]})
    assert text.index("## below") < text.index(f"![below: {plot.what}]({plot.path})")
    assert "## each_layer & more" in text
    assert "| base |  | 0.9000 ± 0.1000 |  | 3 | 10 |  |  |" in text
    assert "| a | fa | 0.6000 ± 0.1414 | -0.2500 | 2 | 10 | 85.0° | 1 failed |" in text


def test_csv_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(results()))))
    assert [found["unit"] for found in rows] == ["base", "a", "b", "up to a"]
    assert float(rows[1]["delta"]) == pytest.approx(-0.25)
    assert rows[2]["mean"] == ""


def test_latex_is_balanced_and_escaped() -> None:
    text = latex(results())
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert text.count(r"\begin{tabular}{llrrrrrl}") == text.count(r"\end{tabular}") == 2
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(f"\\{rule}") == 2
    lines = [line for line in body if line.endswith(r"\\")]
    assert all(len(re.findall(r"(?<!\\)&", line)) == 7 for line in lines)
    assert r"a & fa & 0.6000 $\pm$ 0.1414 & $-0.2500$ & 2 & 10 & 85.0$^\circ$ & 1 failed \\" in text


def test_the_report_needs_nothing_else(tmp_path: Path) -> None:
    picture = '<svg xmlns="http://www.w3.org/2000/svg"/>'
    StudyFolder(tmp_path).write(index(), "rules: [fa]\n", picture)
    write_results(results(), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page
    assert not re.findall(r'(?:src|href)="(?!data:image/svg\+xml;base64,)', page)
    assert (page.count("<svg"), page.count("<img")) == (2, 1)  # two axes and the base
    assert "no &lt;memory&gt;" in page
    assert "default: usf" in page
    assert len(page) < 300_000


def test_plots_are_well_formed(tmp_path: Path) -> None:
    StudyFolder(tmp_path).write(index(), "", "<svg/>")
    write_results(results(), tmp_path)
    heat, curve = (tmp_path / name for name in ("each_layer-more.svg", "below.svg"))
    assert "diverged" in "".join(ElementTree.parse(heat).getroot().itertext())
    assert "<polygon" in curve.read_text()
    ElementTree.parse(curve)


def test_nothing_done_yet(tmp_path: Path) -> None:
    StudyFolder(tmp_path).write(index(), "", "<svg/>")
    write_results(summarise(index(), {}), tmp_path)
    assert "0 of 9 runs are done" in (tmp_path / "report.html").read_text()
    assert "fa: 3 to do" in (tmp_path / "below.svg").read_text()


def test_results_are_a_table_result() -> None:
    found = results()
    assert found.records()[1]["n"] == 2
    assert "<td>up to a</td>" in found._repr_html_()
    assert "-0.2500" in str(found)


def test_half_a_line_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_row(path, row("base", 0, 0.5))
    with path.open("a") as stream:
        stream.write('{"run": "each/a/fa", "se')
    rows, broken = read_rows(path)
    assert (list(rows), broken) == ([("base", 0)], 1)
    said: list[str] = []
    repair_rows(path, said.append)
    assert said == ["note: 1 damaged line(s) removed from results.jsonl; its runs are looked at"]
    append_row(path, row("base", 1, 0.6))
    assert read_rows(path) == ({r.key: r for r in (row("base", 0, 0.5), row("base", 1, 0.6))}, 0)


def test_columns_with_nothing_in_them_are_left_out() -> None:
    cells = (
        Cell("", "base", "", "version: 1\ndefault: bp\n", "base"),
        Cell("policies", "xiao", "", "version: 1\ndefault: usf\n", "policies/xiao"),
    )
    rows = [row("base", 0, 0.5), row("policies/xiao", 0, 0.25)]
    found = summarise(
        Index("study", "Net", "top1", {}, (0,), cells, ()), {each.key: each for each in rows}
    )
    (table,) = tables(found)
    assert table.headings == ("cell", "top1", "Δ to base", "n", "steps")
    assert table.numbers == (False, True, True, True, True)
    assert table.rows == (
        ("base", "0.5000", "", "1", "10"),
        ("xiao", "0.2500", "-0.2500", "1", "10"),
    )
