"""The tour in examples/tour: its commands work one after another, and print what it shows."""

from __future__ import annotations

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from fxbio.cli.main import cli

EXAMPLES = Path(__file__).parent.parent / "examples"
BLOCKS = re.findall(r"^```\n(.*?)^```$", (EXAMPLES / "tour/README.md").read_text(), re.M | re.S)
COMMANDS = [block.strip() for block in BLOCKS if block.startswith("fxbio ")]
SHOWN = {
    command.split()[1]: block
    for command, block in pairwise(BLOCKS)
    if command.startswith("fxbio ") and not block.startswith("fxbio ")
}
SHORTER = {
    "recipe.yaml": {"epochs: 5": "epochs: 1"},
    "study.yaml": {
        "train.epochs=3": "train.epochs=1",
        "seeds: [0, 1]": "seeds: [0]",
        "rules: [fa, usf]": "rules: [fa]",
    },
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tour takes place, with little to train."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    for name, changes in SHORTER.items():
        file = tmp_path / "examples" / "tour" / name
        for old, new in changes.items():
            text = file.read_text()
            assert old in text
            file.write_text(text.replace(old, new))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def test_ten_commands_from_a_model_to_a_report(folder: Path) -> None:
    assert len(COMMANDS) == 10
    for command in COMMANDS:
        result = CliRunner().invoke(cli, shlex.split(command.replace("--jobs 2", ""))[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
        name = command.split()[1]
        if name in ("inspect", "plan", "audit"):  # these print nothing that training changes
            printed = {line.strip() for line in result.output.splitlines()}
            missing = [line for line in SHOWN[name].splitlines() if line.strip() not in printed]
            assert not missing, f"{command} prints\n{result.output}"
    written = {path.name for path in (folder / "tour").rglob("*")}
    assert {"record.json", "plan.svg", "alignment.jsonl", "report.html"} <= written
