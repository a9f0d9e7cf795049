from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Command = Callable[..., Result]


def test_audit_of_a_model_as_it_is(fxbio_command: Command, folder: Path) -> None:
    result = fxbio_command("audit", "model.py")
    assert result.exit_code == 0, result.stderr
    assert "all forward weights are transported" in result.stdout


def test_audit_under_a_policy(fxbio_command: Command, folder: Path) -> None:
    result = fxbio_command("audit", "model.py", "--policy", "ss.yaml", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["claim"].startswith("no forward weight is transported, except head")
    assert [row["transport"] for row in found["rows"]] == ["sign", "sign", "full"]
    assert found["rows"][0]["decided_by"] == "ss.yaml:5 backbone"


def test_audit_as_a_check(fxbio_command: Command, folder: Path) -> None:
    (folder / "fa.yaml").write_text("version: 1\ndefault: fa\n")
    (folder / "sign.yaml").write_text("version: 1\ndefault: usf\n")
    for policy, passing in (("ss", []), ("sign", ["full"]), ("fa", ["full", "sign", "magnitude"])):
        for level in ("full", "sign", "magnitude"):
            result = fxbio_command("audit", "model.py", "-p", f"{policy}.yaml", "--fail-on", level)
            assert result.exit_code == (0 if level in passing else 1), (policy, level)
            assert "forward weight" in result.stdout
            assert ("lets none pass" in result.stderr) == (result.exit_code == 1)
    result = fxbio_command("audit", "model.py", "-p", "ss.yaml", "--fail-on", "full")
    assert "1 weight is transported, and --fail-on full lets none pass" in result.stderr
    assert "head, full, bp, ss.yaml:3 default" in result.stderr


def test_a_transformed_folder(fxbio_command: Command, folder: Path) -> None:
    fxbio_command("transform", "model.py", "--policy", "ss.yaml", "-o", "out")
    assert fxbio_command("audit", "out", "--fail-on", "full").exit_code == 1
    found = json.loads(fxbio_command("alignment", "out", "--json").stdout)
    assert [row["site"] for row in found["rows"]] == ["backbone.0", "backbone.2", "head"]
    result = fxbio_command("audit", "out", "--policy", "ss.yaml")
    assert result.exit_code == 2
    assert "has its own policy" in result.stderr


def test_alignment(fxbio_command: Command, folder: Path) -> None:
    result = fxbio_command("alignment", "model.py", "-p", "ss.yaml")
    assert result.exit_code == 0, result.stderr
    assert "cos gradient" in result.stdout
    result = fxbio_command("alignment", "model.py")
    assert result.exit_code == 2
    assert "needs --policy" in result.stderr
