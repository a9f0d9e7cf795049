from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fxbio.cli.observer import graph_printer, pass_observers, print_time
from fxbio.graph.capture import capture
from fxbio.models.inputs import ExampleInputs
from fxbio.passes import Pass, PassResult, Program
from fxbio.passes.pipeline import PassRun


class Detector(nn.Module):
    """Two islands: what lies between them reads values."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Sequential(nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 2))

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        result: Tensor = self.head(features * float(features.sum().item() > 0))
        return result


@pytest.fixture
def program() -> Program:
    model, inputs = Detector(), ExampleInputs((torch.ones(1, 3),))
    return Program(model, capture(model, inputs), inputs)


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
    assert "backbone.0" in first

    observe(run(""), program)
    assert "unchanged" in (second := capsys.readouterr().err)
    assert "backbone.0" not in second

    program.lowered.node("backbone_0").name = "rewritten_backbone"
    observe(run(""), program)
    third = capsys.readouterr().err
    assert "rewritten_backbone" in third
    assert "-- head" in third
