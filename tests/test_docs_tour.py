"""What the tour tells a newcomer to type works, in order, in one folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fxbio.cli.main import cli
from fxbio.rules import learning_rule

PAGE = Path(__file__).parent.parent / "docs/tour.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learning_rule, "_RULES", dict(learning_rule._RULES))
    return tmp_path


def test_all_of_it_runs_in_order(folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    ran = {"yaml": 0, "python": 0, "": 0}
    for language, text in BLOCK.findall(PAGE.read_text()):
        ran[language] += 1
        if language == "python":
            exec(compile(text, f"tour.md, block {ran[language]}", "exec"), names)
        elif language == "yaml":
            first = re.match(r"# (\S+\.yaml)\n", text)
            assert first, f"which file is it?\n{text}"
            (folder / first[1]).write_text(text)
        else:
            for line in text.splitlines():
                run(line.partition("  #")[0].strip())
    assert all(ran.values())


def run(line: str) -> None:
    result = CliRunner().invoke(cli, shlex.split(line)[1:])
    assert result.exit_code == 0, f"{line}\n{result.output}"
