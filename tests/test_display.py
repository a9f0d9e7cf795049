"""Plans and graphs in notebooks."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import fxbio
from fxbio.display import html_table
from fxbio.errors import ConfigError


class Table(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag in ("td", "th")
        if self._inside:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.cells[-1] += data


@pytest.fixture
def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def test_a_plan_is_a_table(net: nn.Module) -> None:
    shown = fxbio.plan(net, fxbio.Policy.uniform("fa"), torch.zeros(1, 4))._repr_html_()
    cells = Table(shown).cells
    assert cells[:6] == ["site", "op", "shape", "parameters", "rule", "decided by"]
    assert cells[6:12] == ["0", "linear", "3×4", "12", "fa", "default"]
    assert "100.0%" in cells


def test_a_graph_is_a_table(net: nn.Module) -> None:
    cells = Table(fxbio.capture(net, torch.zeros(1, 4))._repr_html_()).cells
    assert cells[6:12] == ["0", "linear", "3×4", "12", "0", "Linear"]


def test_text_is_escaped_and_long_tables_are_cut() -> None:
    shown = html_table("<a>", ["<b>"], [["<c>"]] * 500)
    assert "&lt;a&gt;" in shown
    assert "<b></b>" not in shown
    assert shown.count("&lt;c&gt;") == 200
    assert "and 300 more rows" in shown


def test_data_frames_have_one_row_per_site(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    inputs = torch.zeros(1, 4)
    rows = fxbio.plan(net, fxbio.Policy.uniform("fa"), inputs).to_pandas()
    assert [(row["site"], row["rule"]) for row in rows] == [("0", "fa"), ("2", "fa")]
    assert [row["name"] for row in fxbio.capture(net, inputs).to_pandas()] == ["0", "2"]


def test_without_pandas(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        fxbio.capture(net, torch.zeros(1, 4)).to_pandas()
