"""The README: its size, its links, and its Python and first run, in order and in one folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from fxbio.cli.main import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
SHORTER = {
    "recipe.yaml": {"epochs: 8": "epochs: 1"},
    "study.yaml": {"train.epochs=2": "train.epochs=1", "[0, 1]": "[0]", "[usf, fa]": "[usf]"},
}


def blocks(language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S)
    return [text for name, text in fences if name == language]


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 7000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    links += re.findall(r'src="([^"]+)"', page.read_text())
    missing = [x for x in links if "://" not in x and not (page.parent / x).exists()]
    assert not missing


def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert "usf" in capsys.readouterr().out


def test_the_first_run_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (first,) = [block for block in blocks("") if block.startswith("fxbio new")]
    for line in first.splitlines():
        program, *arguments = shlex.split(line)
        if program == "cd":
            monkeypatch.chdir(arguments[0])
            shorten()
            continue
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert Path("studies").is_dir()


def shorten() -> None:
    for name, changes in SHORTER.items():
        text = Path(name).read_text()
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        Path(name).write_text(text)
    made = CliRunner().invoke(cli, ["data", "make", "shapes", "data/shapes", "--images", "50"])
    assert made.exit_code == 0
