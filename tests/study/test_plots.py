"""The plots of a study as files; without matplotlib there are none, and all else is written."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image

from fxbio.errors import ConfigError
from fxbio.study import PlotOptions, ablate, write_results
from fxbio.study.cells import Cell
from fxbio.study.history import GRADIENT_ANGLE, LOSS, WEIGHT_ANGLE
from fxbio.study.rows import append_row
from fxbio.study.study_folder import Index, StudyFolder
from fxbio.study.summary import summarise
from tests.cli.conftest import fxbio_command
from tests.study.results import index, results, row, write_lines, write_run

__all__ = ["fxbio_command"]

SVG = "{http://www.w3.org/2000/svg}"
TABLES = {"results.md", "results.csv", "results.tex", "report.html", "study.yaml", "study.json"}


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study whose results are those of ``results()``."""
    found = StudyFolder(tmp_path)
    found.write(index(), "rules: [fa]\n", "<svg/>")
    for known in results().rows:
        append_row(found.rows, known)
    return found


@pytest.fixture
def ninety(tmp_path: Path) -> StudyFolder:
    """A study of 90 runs with everything written down."""
    units = [f"features.block{k}.conv" for k in range(7)]
    policy = "version: 1\ndefault: bp\nrules:\n- where: {{module: {}}}\n  rule: {}\n"
    cells = [
        Cell("", "base", "", "version: 1\ndefault: bp\n", "base"),
        *(
            Cell("each", unit, rule, policy.format(unit, rule), f"each/{unit}/{rule}")
            for unit in units
            for rule in ("fa", "usf", "dfa", "frozen")
        ),
        Cell("policies", "mine", "", "version: 1\ndefault: fa\n", "policies/mine"),
    ]
    folder = StudyFolder(tmp_path)
    folder.write(Index("s", "Net", "top1", {}, (0, 1, 2), tuple(cells), ()), "", "<svg/>")
    for cell in cells:
        for seed in range(3):
            write_run(folder.cell(cell.run, seed) / "run", epochs=60, alignment=cell.run != "base")
    return folder


def texts(path: Path) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.parse(path).iter(f"{SVG}text")]


def test_the_report_of_ninety_runs(ninety: StudyFolder) -> None:
    found = ninety.read_index()
    rows = [row(cell.run, seed, 0.5, angle=31.0) for cell in found.cells for seed in found.seeds]
    assert len(rows) == 90
    write_results(summarise(found, {known.key: known for known in rows}), ninety.path)
    page = (ninety.path / "report.html").read_text()
    assert len(page.encode()) < 600_000
    shown = re.findall("<summary>(.*) over the epochs</summary>", page)
    assert shown == ["top1", LOSS, WEIGHT_ANGLE, GRADIENT_ANGLE] * 2
    plots = re.findall(r"\]\((.*\.svg)\)", (ninety.path / "results.md").read_text())
    assert len(plots) == 2 * 5
    assert "curves/policies/angle-between-W-and-B.svg" in plots
    for plot in plots:
        ElementTree.parse(ninety.path / plot)


def test_a_rule_without_angles_has_no_column_among_them(ninety: StudyFolder) -> None:
    found = ninety.read_index()
    for cell in found.cells:
        if cell.rule == "dfa":
            for seed in found.seeds:
                (ninety.cell(cell.run, seed) / "run" / "alignment.jsonl").unlink()
    write_results(summarise(found, {}), ninety.path)
    plots = ninety.path / "curves/each"
    assert {"fa", "dfa"} <= set(texts(plots / "top1.svg"))
    angles = texts(plots / "angle-between-W-and-B.svg")
    assert "fa" in angles
    assert "dfa" not in angles


@pytest.mark.parametrize(
    ("state", "shown"), [("done", False), ("failed", False), ("diverged", True)]
)
def test_only_runs_that_diverged_leave_the_scale(
    folder: StudyFolder, state: str, shown: bool
) -> None:
    for seed in range(3):
        write_run(folder.cell("base", seed) / "run", epochs=4)
        write_run(folder.cell("each/a/fa", seed) / "run", epochs=4)
    metrics = folder.cell("each/a/fa", 2) / "run/metrics.jsonl"
    lines = [{"kind": "eval", "step": 10 * e, "epoch": e, "top1": 7.0 * e} for e in range(1, 5)]
    write_lines(metrics, lines)  # type: ignore[arg-type]
    rows = [r for r in results().rows if r.key != ("each/a/fa", 2)]
    rows.append(row("each/a/fa", 2, 28.0, state=state))
    write_results(summarise(index(), {known.key: known for known in rows}), folder.path)
    found = texts(folder.path / "curves/each_layer-more/top1.svg")
    assert ("diverged: off the scale" in found) == shown
    ticks = [float(text) for text in found if re.fullmatch(r"[\d.]+", text)]
    assert (max(ticks) > 10) != shown  # of a scale that has 28, or 1; there are 4 epochs


@pytest.mark.parametrize("percent", [False, True])
def test_plots_for_papers(folder: StudyFolder, percent: bool) -> None:
    options = PlotOptions(("pdf", "png"), 8.5, percent)
    write_results(results(), folder.path, options)
    for name in ("each_layer-more", "below"):
        assert (folder.path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        with Image.open(folder.path / f"{name}.png") as image:
            assert image.width == pytest.approx(8.5 / 2.54 * 300, abs=1)
        root = ElementTree.parse(folder.path / f"{name}.svg").getroot()
        assert root.attrib["width"] == f"{8.5 / 2.54 * 72:.2f}pt"
        assert any("(%)" in text for text in texts(folder.path / f"{name}.svg")) == percent


def test_everything_else_is_written_without_matplotlib(
    folder: StudyFolder, without_matplotlib: None
) -> None:
    said: list[str] = []
    write_results(results(), folder.path, tell=said.append)
    assert len(said) == 1
    assert said[0].startswith("note: no plots, for matplotlib cannot be imported")
    assert said[0].endswith("pip install 'fxbio[plots]'")
    written = {path.name for path in folder.path.iterdir()}
    assert written >= TABLES
    assert not [name for name in written if name.endswith((".pdf", ".png"))]
    assert [name for name in written if name.endswith(".svg")] == ["base.svg"]
    page = (folder.path / "report.html").read_text()
    assert "each_layer &amp; more" in page
    assert "<figure>" not in page
    assert ".svg" not in (folder.path / "results.md").read_text()


def test_a_format_that_cannot_be_written_is_an_error_after_all_else(
    folder: StudyFolder, without_matplotlib: None
) -> None:
    with pytest.raises(ConfigError, match=r"no plots.*pip install 'fxbio\[plots\]'"):
        write_results(results(), folder.path, PlotOptions(("pdf",)))
    assert {path.name for path in folder.path.iterdir()} >= TABLES


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--format", "pdf"], 2)])
def test_the_command_says_what_to_install(
    folder: StudyFolder,
    without_matplotlib: None,
    fxbio_command: Callable[..., Result],
    options: list[str],
    code: int,
) -> None:
    result = fxbio_command("report", str(folder.path), *options)
    assert result.exit_code == code, result.stderr
    assert result.stderr.count("pip install 'fxbio[plots]'") == 1
    assert (folder.path / "report.html").exists()


def test_the_command_writes_them(folder: StudyFolder, fxbio_command: Callable[..., Result]) -> None:
    options = ["--format", "png", "--format", "pdf", "--width", "8.5", "--percent"]
    result = fxbio_command("report", str(folder.path), *options)
    assert result.exit_code == 0, result.stderr
    assert {"below.png", "below.pdf", "below.svg"} <= {p.name for p in folder.path.iterdir()}
    assert "top1 (%)" in (folder.path / "results.md").read_text()
    refused = fxbio_command("report", str(folder.path), "--width", "3")
    assert refused.exit_code == 2


def test_a_study_says_before_it_begins_that_it_will_have_no_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_matplotlib: None
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(
        "from torch import nn\nmodel = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    (tmp_path / "study.yaml").write_text(
        "recipe:\n  model: {reference: model.py}\n  data: {name: digits, workers: 0}\n"
        "  train: {epochs: 1, batch_size: 512, device: cpu}\n"
        "rules: [fa]\naxes: [{name: a, unit: layer}]\n"
    )
    said: list[str] = []
    ablate("study.yaml", "out", tell=said.append)
    notes = [number for number, line in enumerate(said) if "fxbio[plots]" in line]
    assert len(notes) == 1
    assert notes[0] < next(number for number, line in enumerate(said) if line.startswith("[1/"))
    assert (tmp_path / "out/report.html").exists()
