from __future__ import annotations

import json

from click.testing import CliRunner

from fxbio.cli.main import cli
from fxbio.passes import available_passes


def test_the_passes_are_listed_in_order() -> None:
    result = CliRunner().invoke(cli, ["passes"])
    assert result.exit_code == 0, result.stderr
    names = [line.split()[0] for line in result.stdout.splitlines()[2:]]
    assert names == list(available_passes())


def test_json_of_one_pass() -> None:
    result = CliRunner().invoke(cli, ["passes", "assign-rules", "--json"])
    data = json.loads(result.stdout)
    assert data["name"] == "assign-rules"
    assert data["summary"]
    assert data["options"] == []


def test_an_unknown_pass() -> None:
    result = CliRunner().invoke(cli, ["passes", "assign-rulse"])
    assert result.exit_code == 2
    assert "did you mean 'assign-rules'?" in result.stderr
