"""Curves over the epochs: what runs wrote down, and how it is drawn."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from itertools import accumulate, pairwise
from pathlib import Path

import pytest

from fxbio.study import write_results
from fxbio.study.cells import Cell
from fxbio.study.history import GRADIENT_ANGLE, LOSS, WEIGHT_ANGLE, read_history
from fxbio.study.multiples import Panel, small_multiples
from fxbio.study.study_folder import Index, StudyFolder
from fxbio.study.summary import summarise
from fxbio.study.ticks import ticks
from fxbio.train.output.run_folder import RunFolder
from tests.study.results import row

Place = tuple[float, float]


def write_run(run: Path, epochs: int, steps: int = 10, alignment: bool = True) -> None:
    """A run whose metric goes from 0 to 1, whose loss is 10 above the epoch, and whose B turns."""
    run.mkdir(parents=True)
    train = [
        {"kind": "train", "step": step, "epoch": step / steps, "loss": 10 + step / steps}
        for step in range(1, epochs * steps + 1)
    ]
    evaluations = [
        {"kind": "eval", "step": e * steps, "epoch": e, "loss": 0.5, "top1": e / epochs}
        for e in range(1, epochs + 1)
    ]
    write_lines(run / "metrics.jsonl", [*train, *evaluations])
    if alignment:
        write_lines(
            run / "alignment.jsonl", [aligned(e * steps, "a", 90 - e) for e in range(epochs)]
        )


def aligned(step: int, site: str, angle: float | None, valid: bool = True) -> dict[str, object]:
    cosine = math.cos(math.radians(angle or 0.0))
    return dict(step=step, site=site, weight_angle=angle, gradient_cosine=cosine, valid=valid)


def write_lines(path: Path, lines: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_what_a_run_wrote_down(tmp_path: Path) -> None:
    write_run(tmp_path / "run", epochs=2, steps=2, alignment=False)
    with (tmp_path / "run/metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "train", "step": 5, "epoch": 2.5, "loss": NaN}\n{"kind": "tr')
    history = read_history(RunFolder(tmp_path / "run"), "top1")
    assert history == {
        "top1": [(1, 0.5), (2, 1.0)],
        LOSS: [(0.5, 10.5), (1, 11), (1.5, 11.5), (2, 12)],
    }


def test_angles_are_those_of_weights_that_a_rule_turns(tmp_path: Path) -> None:
    write_run(tmp_path / "run", epochs=2, steps=2, alignment=False)
    lines = [
        aligned(0, "one", 80),
        aligned(0, "two", 60),
        aligned(0, "backprop", 0.0),
        aligned(0, "broadcast", None),
        aligned(4, "one", 40),
        aligned(4, "two", 20, valid=False),
        aligned(4, "backprop", 0.0),
    ]
    write_lines(tmp_path / "run/alignment.jsonl", lines)
    history = read_history(RunFolder(tmp_path / "run"), "top1")
    assert history[WEIGHT_ANGLE] == [(0, 70), (2, 30)]
    assert dict(history[GRADIENT_ANGLE]) == pytest.approx({0: 70, 2: 40})


def test_nothing_of_a_run_that_has_not_begun(tmp_path: Path) -> None:
    assert read_history(RunFolder(tmp_path / "run"), "top1") == {}


def curves_of(svg: str) -> list[tuple[str, list[Place]]]:
    """Colour and places of each curve."""
    found = []
    for path in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"):
        start, moves = path.attrib["d"].removeprefix("M").split("l")
        numbers = [float(n) for n in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", moves)]
        steps = zip(numbers[::2], numbers[1::2], strict=True)
        x, y = map(float, start.split())
        places = accumulate(steps, lambda at, by: (at[0] + by[0], at[1] + by[1]), initial=(x, y))
        found.append((path.attrib["stroke"], list(places)))
    return found


def test_panels_have_one_scale() -> None:
    base = [(0.0, 0.0), (10.0, 10.0)]
    rising = [(0.0, 0.0), (5.0, 5.0), (10.0, 10.0)]
    high = [(5.0, 5.0), (10.0, 5.0)]
    panels = [Panel("a", "fa", [rising], ""), Panel("a", "usf", [high, rising], "1 to do")]
    drawn = curves_of(small_multiples("each", "top1", base, panels))
    (grey, one), (blue, two), (also_grey, _), (red, flat), (also_red, three) = drawn
    assert grey == also_grey
    assert red == also_red
    assert len({grey, blue, red}) == 3
    left, bottom = one[0]
    right, top = one[-1]
    assert (left < right, top < bottom) == (True, True)
    assert two[0] == one[0]
    assert two[1] == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.11)
    assert two[2] == pytest.approx((right, top), abs=0.11)
    assert flat[0][1] == flat[1][1] == pytest.approx((top + bottom) / 2, abs=0.11)
    aside = three[0][0] - two[0][0]
    assert aside > right - left
    assert flat[0][0] == pytest.approx((left + right) / 2 + aside, abs=0.11)


def test_a_run_that_explodes_leaves_the_scale_to_the_others() -> None:
    base = [(float(k), 1.0 - k / 100) for k in range(100)]
    exploding = [*base[:99], (99.0, 1e30)]
    drawn = curves_of(small_multiples("each", "loss", base, [Panel("a", "fa", [exploding], "")]))
    (_, calm), (_, wild) = drawn
    height = calm[-1][1] - calm[0][1]
    assert height > 30
    assert wild[-1][1] < calm[0][1]
    assert calm[0][1] - wild[-1][1] < 0.6 * height


def test_many_points_are_thinned_and_keep_their_ends() -> None:
    points = [(k / 7, math.sin(k)) for k in range(1000)]
    (_, drawn), _ = curves_of(small_multiples("a", "b", points, [Panel("a", "fa", [points], "")]))
    (_, ends), _ = curves_of(small_multiples("a", "b", points, [Panel("a", "", [points[-2:]], "")]))
    assert len(drawn) < 50
    assert drawn[-1][0] == pytest.approx(ends[-1][0], abs=1)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.07, 0.62), (-3, 2.2), (1e-5, 9e-5)])
@pytest.mark.parametrize("most", [3, 9])
def test_ticks_are_round_and_few(low: float, high: float, most: int) -> None:
    found = ticks(low, high, most)
    assert 1 <= len(found) <= most
    assert all(low <= value <= high for value in found)
    steps = {f"{b - a:.3g}" for a, b in pairwise(found)}
    assert len(steps) <= 1
    assert all(re.sub(r"[0.]|e.*", "", step) in ("1", "2", "5") for step in steps)


@pytest.fixture
def ninety(tmp_path: Path) -> StudyFolder:
    """A study of 90 runs with everything written down, one of which exploded."""
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


def test_the_report_of_ninety_runs_is_small(ninety: StudyFolder) -> None:
    index = ninety.read_index()
    rows = [row(cell.run, seed, 0.5, angle=31.0) for cell in index.cells for seed in index.seeds]
    assert len(rows) == 90
    write_results(summarise(index, {found.key: found for found in rows}), ninety.path)
    page = (ninety.path / "report.html").read_text()
    assert len(page.encode()) < 300_000
    shown = re.findall("<summary>(.*) over the epochs</summary>", page)
    assert shown == ["top1", LOSS, WEIGHT_ANGLE, GRADIENT_ANGLE] * 2
    plot = (ninety.path / "curves/each/top1.svg").read_text()
    assert len(curves_of(plot)) == 7 * 4 * (3 + 1)
    assert (
        "](curves/policies/angle-between-W-and-B.svg)" in (ninety.path / "results.md").read_text()
    )


def test_a_few_seeds_that_explode_leave_the_scale_to_the_others() -> None:
    base = [(float(k), 1.0 - k / 4) for k in range(4)]
    wild = [(0.0, 1.0), (1.0, 3e13), (2.0, 1e13), (3.0, 2e13)]
    panels = [Panel(name, "fa", [base, base], "") for name in "abc"]
    drawn = curves_of(
        small_multiples("each", "loss", base, [*panels, Panel("d", "fa", [wild], "")])
    )
    heights = [abs(points[-1][1] - points[0][1]) for _, points in drawn[:-1]]
    assert min(heights) > 20


def test_a_rule_without_angles_has_no_column_among_them(ninety: StudyFolder) -> None:
    index = ninety.read_index()
    for cell in index.cells:
        if cell.rule == "dfa":
            for seed in index.seeds:
                (ninety.cell(cell.run, seed) / "run" / "alignment.jsonl").unlink()
    write_results(summarise(index, {}), ninety.path)
    plots = ninety.path / "curves/each"
    assert ">dfa<" in (plots / "top1.svg").read_text()
    angles = (plots / "angle-between-W-and-B.svg").read_text()
    assert ">fa<" in angles
    assert ">dfa<" not in angles
