from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fxbio.graph.capture import capture
from fxbio.models import load_reference
from fxbio.policy.policy import Policy
from fxbio.policy.resolve import resolve
from fxbio.study.cells import Cell, make_cells
from fxbio.study.read_study import load_study

MODEL = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 2, 3, stride=4), nn.ReLU())
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 6))
        self.head = nn.Linear(6, 10)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).relu())
"""

STUDY = """\
recipe:
  model: {reference: model.py}
  data: {name: digits, workers: 0}
  optim: {lr: 0.1}
  train: {epochs: 2, batch_size: 512, device: cpu}
"""

LAYERS = ("stem.0", "body.1", "body.3", "head")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with model.py, which is the current one."""
    (tmp_path / "model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # a model's folder is put in front of it
    return tmp_path


@pytest.fixture
def write(folder: Path) -> Callable[..., Path]:
    """Writes a study with these further lines."""

    def write(text: str, name: str = "study.yaml") -> Path:
        path = folder / name
        path.write_text(STUDY + text)
        return path

    return write


@pytest.fixture
def cells(write: Callable[..., Path]) -> Callable[[str], tuple[Cell, ...]]:
    """The cells of a study with these further lines."""

    def make(text: str) -> tuple[Cell, ...]:
        study = load_study(write(text))
        model = load_reference("model.py", {}, None, seed=0).model
        return make_cells(study, model, capture(model, torch.zeros(2, 1, 8, 8)))

    return make


@pytest.fixture
def rules(folder: Path) -> Callable[[Cell], list[str]]:
    """The rule that a cell gives to each layer, in the order of the model."""

    def of(cell: Cell) -> list[str]:
        model = load_reference("model.py", {}, None, seed=0).model
        plan = resolve(Policy.from_yaml(cell.policy), capture(model, torch.zeros(2, 1, 8, 8)))
        assert tuple(a.site.name for a in plan.assignments) == LAYERS
        return [a.rule for a in plan.assignments]

    return of
