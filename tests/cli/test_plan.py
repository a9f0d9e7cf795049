from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Command = Callable[..., Result]


def test_the_plan_is_printed_with_the_line_that_decided(
    fxbio_command: Command, folder: Path
) -> None:
    result = fxbio_command("plan", "model.py", "--policy", "ss.yaml")
    assert result.exit_code == 0, result.stderr
    line = next(line for line in result.stdout.splitlines() if "backbone.0" in line)
    assert "usf" in line
    assert "ss.yaml:5" in line
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        "model.py",
        "ss.yaml",
    ]


def test_json(fxbio_command: Command, folder: Path) -> None:
    from fxbio.policy import Plan

    result = fxbio_command("plan", "model.py", "-p", "ss.yaml", "--json")
    plan = Plan.from_json(result.stdout)
    assert {a.site.name: a.rule for a in plan.assignments} == {
        "backbone.0": "usf",
        "backbone.2": "usf",
        "head": "bp",
    }


def test_diff(fxbio_command: Command, folder: Path) -> None:
    text = (folder / "ss.yaml").read_text()
    (folder / "fa.yaml").write_text(text.replace("rule: usf", "rule: fa"))
    arguments = ("plan", "model.py", "-p", "ss.yaml", "--diff")

    result = fxbio_command(*arguments, "fa.yaml")
    assert result.exit_code == 0
    assert "~ backbone.0: usf → fa" in result.stdout
    assert "head" not in result.stdout

    changed = json.loads(fxbio_command(*arguments, "fa.yaml", "--json").stdout)["changed"]
    assert list(changed) == ["backbone.0", "backbone.2"]
    assert changed["backbone.0"]["to"]["rule"] == "fa"

    assert fxbio_command(*arguments, "ss.yaml").stdout == "the plans do the same\n"


def test_a_policy_error_has_file_line_and_column(fxbio_command: Command, folder: Path) -> None:
    text = (folder / "ss.yaml").read_text()
    (folder / "typo.yaml").write_text(text.replace("backbone.**", "bakbone.**"))
    result = fxbio_command("plan", "model.py", "-p", "typo.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "typo.yaml:6:" in result.stderr
    assert "backbone" in result.stderr


def test_a_plugin_rule_can_be_planned(fxbio_command: Command, folder: Path) -> None:
    from fxbio.rules import learning_rule as registry

    before = dict(registry._RULES)
    (folder / "my_rules.py").write_text(
        "from dataclasses import dataclass\n"
        "from fxbio.rules import FeedbackRule, rule\n"
        "@rule('ones')\n@dataclass(frozen=True)\nclass Ones(FeedbackRule):\n"
        "    'All ones.'\n"
        "    def feedback(self, weight, drawn):\n        return weight.new_ones(weight.shape)\n"
    )
    (folder / "ones.yaml").write_text("version: 1\ndefault: ones\n")
    try:
        result = fxbio_command(
            "plan", "model.py", "-p", "ones.yaml", "--plugin", "my_rules.py", "--json"
        )
    finally:
        registry._RULES.clear()
        registry._RULES.update(before)
    assert result.exit_code == 0, result.stderr
    assert {a["rule"] for a in json.loads(result.stdout)["assignments"]} == {"ones"}
