from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest

from fxbio.errors import RuleError
from fxbio.plugins import GROUPS, load_entry_points, load_plugin
from fxbio.rules import available_rules, find_rule
from fxbio.rules import learning_rule as registry

RULE = '''
from dataclasses import dataclass
from fxbio.rules import FeedbackRule, rule

@rule("{name}")
@dataclass(frozen=True)
class Ternary(FeedbackRule):
    """Signs of the large weights: ``B = sign(W) · [|W| > mean |W|]``."""

    def feedback(self, weight, drawn):
        return weight.sign() * (weight.abs() > weight.abs().mean())
'''


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    load_entry_points.cache_clear()
    yield
    load_entry_points.cache_clear()


def test_a_file_registers_its_rules(tmp_path: Path) -> None:
    path = tmp_path / "my_rules.py"
    path.write_text(RULE.format(name="ternary"))
    load_plugin(path)
    assert "ternary" in available_rules()
    load_plugin(str(path))  # again: the same rule from the same file is no conflict
    assert find_rule("ternary").__name__ == "Ternary"


def test_a_rule_file_from_before_the_families_says_how_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "my_rules.py"
    path.write_text(RULE.format(name="ternary").replace("FeedbackRule", "Rule"))
    with pytest.raises(RuleError, match="rule 'ternary' belongs to no family") as caught:
        load_plugin(path)
    assert "write: class Ternary(fxbio.FeedbackRule)" in str(caught.value)


def test_two_files_with_one_rule_name_conflict(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my_rules.py").write_text(RULE.format(name="ternary"))
    load_plugin(tmp_path / "a" / "my_rules.py")
    with pytest.raises(RuleError, match="two rules are called 'ternary'"):
        load_plugin(tmp_path / "b" / "my_rules.py")


def test_a_plugin_that_raises_points_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "my_rules.py"
    path.write_text("x = 1\nraise ValueError('no')\n")
    with pytest.raises(RuleError, match="ValueError: no") as caught:
        load_plugin(path)
    assert caught.value.location is not None
    assert caught.value.location.line == 2


@pytest.mark.parametrize("plugin", ["missing_rules.py", "surely.not_installed"])
def test_a_missing_plugin(plugin: str) -> None:
    with pytest.raises(RuleError, match=plugin.partition(".")[0]):
        load_plugin(plugin)


def test_a_module_is_imported() -> None:
    assert load_plugin("json.tool").__name__ == "json.tool"


def _install(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = importlib.metadata.EntryPoint("extra", value, GROUPS[0])

    def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        return [entry] if group == GROUPS[0] else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


def test_entry_points_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "json.tool")
    assert load_entry_points() == ("extra",)


def test_a_broken_entry_point_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "surely_not_installed")
    with pytest.raises(RuleError, match="plug-in 'extra'"):
        load_entry_points()
