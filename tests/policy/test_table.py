from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from fxbio.policy import Plan, Policy, plan_markdown, render_plan, resolve
from fxbio.policy.table_layout import fit_rows
from tests.policy.toy import LSTM, FakeGraph, make_graph, make_site

POLICY = """\
version: 1
default: bp
rules:
  - {name: backbone, where: "backbone.**", rule: usf}
  - {where: "head.fc", rule: fa, with: {magnitude: 2}, on_unsupported: bp}
  - {name: stem, where: {first: true}, rule: frozen}
"""

GOLDEN = """\
 toy · p.yaml

 site            op      shape     parameters  rule    decided by         overrides
 ───────────────────────────────────────────────────────────────────────────────────
 backbone.conv1  conv2d  64×3×7×7       9,408  frozen  p.yaml:6 stem      :4
 backbone.conv2  conv2d  8×4×3×3          288  usf     p.yaml:4 backbone
 head.cls ×2     conv2d  16×8×3×3       1,152  bp      p.yaml:2 default
 head.fc         linear  10×16            160  bp *    p.yaml:5 entry 2

 scales of normalisation layers, which keep bp: 1 (see op: norm)


 rule    sites  weights  parameters  share
 ──────────────────────────────────────────
 frozen      1        1       9,408  85.0%
 bp          4        3       1,376  12.4%
 usf         1        1         288   2.6%

 Keeps bp although another rule was asked for (*)
   head.fc, not fa: compiled (p.yaml:5 entry 2)

 Applies weights where no rule reaches, keeps bp
   encoder.lstm: nn.LSTM runs a fused kernel (net.py:12); weights: encoder.lstm.weight_ih_l0
"""


@pytest.fixture
def small(policy_file: Path) -> Plan:
    policy_file.write_text(POLICY)
    graph = make_graph(
        [
            make_site("backbone.conv1", shape=(64, 3, 7, 7)),
            make_site("backbone.bn1", "norm", (64,)),
            make_site("backbone.conv2"),
            make_site("head.cls", shape=(16, 8, 3, 3)),
            make_site("head.cls", shape=(16, 8, 3, 3)),
            make_site("head.fc", "linear", (10, 16), unreachable="compiled"),
        ],
        (LSTM,),
    )
    return resolve(Policy.from_yaml(policy_file), graph)


def rendered(plan: Plan, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(render_plan(plan))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_plain_text(small: Plan) -> None:
    assert str(small).rstrip() == GOLDEN.rstrip()


def test_a_wide_terminal_shows_the_same(small: Plan) -> None:
    assert "\n".join(rendered(small, 100)).rstrip() == GOLDEN.rstrip()


def long_plan(graph: FakeGraph) -> Plan:
    policy = Policy.uniform("bp").append(where="**", rule="usf", name="everything")
    return resolve(policy.append(where="**.downsample.0", rule="fa", name="short"), graph)


PATH = "backbone.body.layer4.0.downsample.0"


@pytest.mark.parametrize("width", [80, 100, 120])
def test_paths_break_at_dots_and_nothing_is_cut_off(width: int) -> None:
    sites = [make_site(PATH, shape=(2048, 1024, 1, 1)), make_site("backbone.body.conv1")]
    lines = rendered(long_plan(make_graph(sites)), width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    assert ("overrides" in "".join(lines)) or "a wider terminal also shows: overrides" in lines[-9]
    start = next(i for i, line in enumerate(lines) if line.startswith(" backbone.body.layer4"))
    first, second = (line.split("  ")[0].strip() for line in (lines[start], lines[start + 1][2:]))
    assert PATH in (first, first + second)


def test_plain_text_never_breaks_a_row() -> None:
    plan = long_plan(make_graph([make_site(".".join([PATH] * 8))]))
    assert ".".join([PATH] * 8) in str(plan)


def test_options_are_in_the_rows_only_where_they_differ() -> None:
    sites = make_graph([make_site("a"), make_site("b")])
    one = Policy.uniform("fa", magnitude=2)
    assert " fa{magnitude=2} " not in str(resolve(one, sites)).partition("share")[0]
    two = one.append(where="b", rule="fa", options={"magnitude": 3})
    rows = str(resolve(two, sites)).partition("share")[0]
    assert "fa{magnitude=2}" in rows
    assert "fa{magnitude=3}" in rows


def test_a_weight_shared_by_two_modules_is_counted_in_one_row() -> None:
    sites = [make_site("a"), make_site("b", weight="a.weight")]
    rows = str(resolve(Policy.uniform("fa"), make_graph(sites))).splitlines()
    assert [row.split()[3] for row in rows if row.startswith((" a ", " b "))] == ["288", "shared"]


def test_a_model_without_sites_has_a_plan() -> None:
    assert "toy" in str(resolve(Policy.uniform("fa"), make_graph([])))


def test_markdown(small: Plan) -> None:
    text = plan_markdown(small)
    assert text.startswith("# Plan of toy\n\nPolicy: p.yaml\n\n## Sites\n\n| site | op | shape |")
    assert "| head.cls ×2 | conv2d | 16×8×3×3 | 1,152 | bp | p.yaml:2 default |  |" in text
    assert "| bp | 4 | 3 | 1,376 | 12.4% |" in text
    assert "* encoder.lstm: nn.LSTM runs a fused kernel (net.py:12)" in text


@pytest.mark.parametrize(
    ("cell", "width", "expected"),
    [
        ("a.b.c", 9, "a.b.c"),
        ("aaaa.bbbb.cccc", 9, "aaaa.bbbb\n  .cccc"),
        ("aaaa.bbbb.cccc", 7, "aaaa\n  .bbbb\n  .cccc"),
        ("aaaaaaaaaa", 6, "aaaaaa\n  aaaa"),
        ("p.yaml:4 backbone", 12, "p.yaml:4\n  backbone"),
    ],
)
def test_cells_break_at_separators(cell: str, width: int, expected: str) -> None:
    assert fit_rows(["site"], [(cell,)], width, {"site": 4}) == [(expected,)]
