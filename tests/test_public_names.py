"""The names of fxbio that its pages and docstrings use are there."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fxbio

ROOT = Path(__file__).parent.parent
FILES = "**/*.[my][da]*"
PAGES = [
    ROOT / "README.md",
    *ROOT.glob("docs/*.md"),
    *ROOT.glob(f"examples/{FILES}"),
    *ROOT.glob(f"fxbio/presets/{FILES}"),
]
CODE = [path for folder in ("fxbio", "passes", "cli") for path in (ROOT / folder).rglob("*.py")]
NAME = re.compile(r"(?<![\w./:])fxbio(?:\.[A-Za-z_]\w*)+")


def texts(path: Path) -> Iterator[str]:
    """A page, or the docstrings of a module, those of attributes among them."""
    if path.suffix != ".py":
        yield path.read_text()
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


def used(paths: Iterable[Path]) -> set[str]:
    return {name for path in paths for text in texts(path) for name in NAME.findall(text)}


def resolve(name: str) -> Any:
    value: Any = fxbio
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("name", sorted(used(PAGES)))
def test_names_on_the_pages_are_public(name: str) -> None:
    assert name.split(".")[1] in fxbio.__all__
    assert resolve(name) is not None


def test_the_pages_were_read() -> None:
    expected = {"fxbio.log_alignment", "fxbio.verify", "fxbio.optim.strict_norm"}
    assert expected <= used(PAGES)


@pytest.mark.parametrize("name", fxbio.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(fxbio, name) is not None
    assert name in dir(fxbio)


def test_packages_are_there_after_a_plain_import() -> None:
    code = (
        "import fxbio; fxbio.log_alignment, fxbio.train.load_recipe, fxbio.viz.draw, "
        "fxbio.passes.Pipeline, fxbio.errors.ModelError, fxbio.rules.make_rule"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(AttributeError, match="module 'fxbio' has no attribute 'plam'"):
        fxbio.plam  # noqa: B018


@pytest.mark.parametrize("name", sorted(used(CODE)))
def test_names_in_docstrings_exist(name: str) -> None:
    """Modules that are no attribute of the package among them."""
    assert pkgutil.resolve_name(name) is not None
