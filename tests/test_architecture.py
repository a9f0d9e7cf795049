"""The shape of the tree: which way imports run, what is packaged, how the packages are named."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"fxbio": ROOT / "fxbio", "fxbio.passes": ROOT / "passes", "fxbio.cli": ROOT / "cli"}

LAYERS: tuple[tuple[str, ...], ...] = (
    ("fxbio.errors", "fxbio._version"),
    ("fxbio.files",),
    ("fxbio.nn",),
    ("fxbio.optim",),
    ("fxbio.tensors",),
    ("fxbio.rules",),
    ("fxbio.transforms",),
    ("fxbio.ops",),  # an op is given the name of its rule
    ("fxbio.semantics",),
    ("fxbio.models",),
    ("fxbio.graph",),
    ("fxbio.target_propagation",),
    ("fxbio.policy",),
    ("fxbio.runtime",),
    ("fxbio.lowering",),
    ("fxbio.serialization",),
    ("fxbio.verification",),
    ("fxbio.passes",),
    ("fxbio.parameter_groups",),
    ("fxbio.api",),
    ("fxbio", "fxbio.saving"),
    ("fxbio.viz",),
    ("fxbio.analysis",),
    ("fxbio.train",),
    ("fxbio.study",),
    ("fxbio.cli", "fxbio.__main__"),
)
"""From the bottom up, one package a layer: a module imports from its own and from those before."""

GROUND = 1
"""Layer of what is not named above: the few modules that stand directly in the package."""

APART = {"fxbio.runtime": ("fxbio.graph", "fxbio.policy", "fxbio.lowering")}
"""What a package must not know of although it lies above: what runs is told by pure data."""

LAZY = ("fxbio", "fxbio.api")
"""The API imports passes and more inside its functions, so that importing fxbio is quick."""


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            if "presets" in path.parts:  # data: models that recipes name
                continue
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            yield name, path


MODULES = dict(modules())


def layer(module: str) -> int:
    """The layer of the longest prefix that has one; the bare package speaks for itself only."""
    parts = module.split(".")
    for end in range(len(parts), 1, -1):
        prefix = ".".join(parts[:end])
        for number, names in enumerate(LAYERS):
            if prefix in names:
                return number
    return (
        GROUND if len(parts) > 1 else next(i for i, names in enumerate(LAYERS) if module in names)
    )


def imports(tree: ast.AST, *, lazy_allowed: bool) -> Iterator[tuple[str, int]]:
    """Modules of fxbio that a file imports, with the line, inside functions too.

    What is imported for type checkers alone does not count, for it does not run.
    """
    for node in ast.iter_child_nodes(tree):
        if lazy_allowed and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names if is_ours(a.name))
        elif isinstance(node, ast.ImportFrom) and node.module and is_ours(node.module):
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield (below if below in MODULES else node.module), node.lineno
        else:
            yield from imports(node, lazy_allowed=lazy_allowed)


def is_ours(module: str) -> bool:
    return module.partition(".")[0] == "fxbio"


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    backwards = [
        f"{MODULES[module].relative_to(ROOT)}:{line} imports {target}"
        for target, line in imports(tree, lazy_allowed=module in LAZY)
        if layer(target) > layer(module)
    ]
    assert not backwards


@pytest.mark.parametrize(("package", "unknown"), APART.items())
def test_what_runs_knows_nothing_of_how_it_was_decided(
    package: str, unknown: tuple[str, ...]
) -> None:
    known = [
        f"{path.relative_to(ROOT)}:{line} imports {target}"
        for module, path in MODULES.items()
        if module.startswith(package)
        for target, line in imports(ast.parse(path.read_text()), lazy_allowed=False)
        if target.startswith(unknown)
    ]
    assert not known


def circles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    return [sorted(c) for c in nx.strongly_connected_components(nx.DiGraph(edges)) if len(c) > 1]


def imported() -> Iterator[tuple[str, str]]:
    """Which module imports which, late imports inside of functions included."""
    for module, path in MODULES.items():
        for target, _ in imports(ast.parse(path.read_text()), lazy_allowed=module in LAZY):
            yield module, target


def test_no_circle_of_modules() -> None:
    assert not circles((a, b) for a, b in imported() if a != b)


def test_no_circle_of_packages() -> None:
    pairs = ((package_of(a), package_of(b)) for a, b in imported())
    assert not circles((a, b) for a, b in pairs if a != b)


def package_of(module: str) -> str:
    """``fxbio.graph`` of ``fxbio.graph.capture``; modules of the ground floor are themselves."""
    return ".".join(module.split(".")[:2])


def test_circles_are_seen() -> None:
    assert circles([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]) == [["a", "b", "c"]]


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        ("fxbio.errors", "fxbio.ops.linear"),
        ("fxbio.site", "fxbio.ops"),
        ("fxbio.rules.learning_rule", "fxbio.ops.linear"),
        ("fxbio.ops.linear", "fxbio.runtime"),
        ("fxbio.graph.capture", "fxbio.target_propagation.blocks"),
        ("fxbio.target_propagation", "fxbio.runtime"),
        ("fxbio.runtime", "fxbio.lowering"),
        ("fxbio.models.load_model", "fxbio.passes.graph_pass"),
        ("fxbio.passes.graph_pass", "fxbio.api"),
        ("fxbio.api", "fxbio.saving"),
        ("fxbio", "fxbio.train.engine.loop"),
        ("fxbio.api", "fxbio.viz"),
        ("fxbio.analysis", "fxbio.train"),
        ("fxbio.study", "fxbio.cli.main"),
    ],
)
def test_the_layers_themselves(lower: str, upper: str) -> None:
    assert layer(lower) < layer(upper)


def test_every_package_is_listed_for_setuptools() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert set(settings["packages"]) == packages
    for package, folder in settings["package-dir"].items():
        assert FOLDERS[package] == ROOT / folder


def test_every_folder_of_code_is_a_package() -> None:
    for path in MODULES.values():
        assert (path.parent / "__init__.py").exists(), path


@pytest.mark.parametrize("folder", ["passes", "cli"])
def test_mapped_packages_refuse_another_name(folder: str) -> None:
    code = f"import {folder}"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0
    assert f"fxbio.{folder}" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("folder", [ROOT, ROOT.parent], ids=["in the checkout", "elsewhere"])
def test_mapped_packages_can_be_imported_from_anywhere(folder: Path) -> None:
    code = "import sys, fxbio.cli.main, fxbio.errors; assert 'torch' not in sys.modules"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
