from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fxbio.cli.main import cli

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, width, 3))
        self.head = nn.Linear(width, 2)

    def forward(self, images):
        return self.head(self.backbone(images).mean((2, 3)))

def example_inputs():
    return torch.zeros(2, 3, 8, 8).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
"""

POLICY = """
version: 1
default: bp
rules:
  - name: backbone
    where: {module: "backbone.**"}
    rule: usf
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with model.py and ss.yaml, which is the current one."""
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "ss.yaml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # a model's folder is put in front of it
    return tmp_path


@pytest.fixture
def fxbio_command() -> Callable[..., Result]:
    """Runs the command line in this process."""
    return lambda *args: CliRunner().invoke(cli, [str(arg) for arg in args])
