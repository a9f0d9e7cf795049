from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fxbio.study import PlotOptions, write_results
from fxbio.study.cells import Cell
from fxbio.study.plots import Plot
from fxbio.study.reports import markdown
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


def test_a_policy_that_is_the_base_is_told_of_as_such() -> None:
    """It shares the runs of the base, so its rule may well have had an error to send."""
    usf = Cell("policies", "usf", "", "version: 1\ndefault: bp\n", "base")
    one, other = [row("base", seed, 0.8) for seed in (0, 1)]
    found = summarise(
        replace(index(), cells=(*index().cells, usf)), {r.key: r for r in (one, other)}
    )
    assert found.base.note == "1 to do"
    assert (found.lines[-1].note, found.lines[-1].mean) == ("1 to do, the base itself", 0.8)


def test_markdown() -> None:
    plot = Plot("top1 over the epochs", "curves/below/top1", {"svg": b"<svg/>"})
    text = markdown(results(), {"below": [plot]})
    assert text.index("## below") < text.index(f"![below: {plot.what}]({plot.path}.svg)")
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
    assert text.count(r"\begin{table}[t]") == text.count(r"\end{table}") == 2
    assert r"\label{tab:study-each-layer-more}" in text
    assert r"\caption{each\_layer \& more. study: top1 of Net, seeds 0, 1, 2; mean $\pm$" in text
    lines = [line for line in body if line.endswith(r"\\")]
    assert all(len(re.findall(r"(?<!\\)&", line)) == 7 for line in lines)
    assert r"a & fa & 0.6000 $\pm$ 0.1414 & $-0.2500$ & 2 & 10 & 85.0$^\circ$ & 1 failed \\" in text


def test_the_report_needs_nothing_else(tmp_path: Path) -> None:
    picture = '<svg xmlns="http://www.w3.org/2000/svg"/>'
    StudyFolder(tmp_path).write(index(), "rules: [fa]\n", picture)
    write_results(results(), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page
    assert not re.findall(r'(?:src|href)="(?!#|data:image/(?:svg\+xml|png);base64,)', page)
    inside = set(re.findall(r'(?:href="|url\()#(\w+)', page))
    assert inside <= set(re.findall(r' id="(\w+)"', page))
    assert (page.count("<svg"), page.count("<img")) == (2, 1)  # two axes and the base
    assert "no &lt;memory&gt;" in page
    assert "default: usf" in page
    assert len(page) < 300_000


def test_nothing_done_yet(tmp_path: Path) -> None:
    StudyFolder(tmp_path).write(index(), "", "<svg/>")
    write_results(summarise(index(), {}), tmp_path)
    assert "0 of 9 runs are done" in (tmp_path / "report.html").read_text()
    assert "fa: 3 to do" in (tmp_path / "below.svg").read_text()


def test_the_report_has_the_recipe_and_the_versions(tmp_path: Path) -> None:
    found = replace(index(), recipe={"optim": {"lr": 0.125}})
    folder = StudyFolder(tmp_path)
    folder.write(found, "", "<svg/>")
    run = folder.cell("base", 0) / "run"
    run.mkdir(parents=True)
    for environment, shown in (("{}", False), (json.dumps(ENVIRONMENT), True)):
        (run / "env.json").write_text(environment)
        write_results(summarise(found, {}), tmp_path)
        page = (tmp_path / "report.html").read_text()
        assert "lr: 0.125" in page
        words = "fxbio 1.2, torch 2.14, torchvision 0.29, python 3.11, Linux &lt;x&gt;, H200"
        assert (words in page) == shown


ENVIRONMENT = dict(
    fxbio="1.2",
    torch="2.14",
    torchvision="0.29",
    python="3.11",
    platform="Linux <x>",
    gpus=["H200"],
)


def test_a_metric_in_percent(tmp_path: Path) -> None:
    StudyFolder(tmp_path).write(index(), "", "<svg/>")
    write_results(results(), tmp_path, PlotOptions(percent=True))
    markdown_text = (tmp_path / "results.md").read_text()
    assert "| cell | rule | top1 (%) | Δ to base |" in markdown_text
    assert "| a | fa | 60.00 ± 14.14 | -25.00 | 2 |" in markdown_text
    assert r"a & fa & 60.00 $\pm$ 14.14 & $-25.00$ &" in (tmp_path / "results.tex").read_text()
    assert '<td class="number">60.00 ± 14.14</td>' in (tmp_path / "report.html").read_text()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert float(rows[1]["mean"]) == pytest.approx(0.6)  # plain numbers, whatever is shown


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
