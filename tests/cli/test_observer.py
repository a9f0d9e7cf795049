from __future__ import annotations

import pytest
from torch import fx, nn

from fxbio.cli.observer import graph_printer, pass_observers, print_time
from fxbio.graph.inputs import ExampleInputs
from fxbio.graph.model_graph import Island, ModelGraph
from fxbio.passes import Pass, PassResult, Program
from fxbio.passes.pipeline import PassRun


def graph(name: str) -> fx.Graph:
    made = fx.Graph()
    made.output(made.placeholder(name))
    return made


@pytest.fixture
def program() -> Program:
    islands = (Island("backbone", graph("images")), Island("head", graph("features")))
    captured = ModelGraph("Detector", sites=(), unreachable=(), islands=islands)
    return Program(nn.Identity(), captured, ExampleInputs())


def run(summary: str, seconds: float = 0.0) -> PassRun:
    return PassRun(0, Pass(), PassResult(True, summary), seconds)


def test_nothing_is_observed_unless_asked_for() -> None:
    assert pass_observers(False, False) == []
    assert pass_observers(False, True) == [print_time]
    assert len(pass_observers(True, True)) == 2


def test_timing_prints_milliseconds_and_summary(
    program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    print_time(run("20 sites", seconds=0.25), program)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "250.0 ms" in captured.err
    assert "20 sites" in captured.err


def test_graphs_are_printed_when_they_change(
    program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    observe = graph_printer()
    observe(run(""), program)
    assert "-- backbone" in (first := capsys.readouterr().err)
    assert "images" in first

    observe(run(""), program)
    assert "unchanged" in (second := capsys.readouterr().err)
    assert "images" not in second

    program.rewritten["backbone"] = graph("rewritten_images")
    observe(run(""), program)
    third = capsys.readouterr().err
    assert "rewritten_images" in third
    assert "features" in third
