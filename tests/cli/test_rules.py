from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fxbio.cli.main import cli
from fxbio.rules import available_rules
from fxbio.rules import learning_rule as registry
from fxbio.transforms import available_transforms

PLUGIN = '''
from dataclasses import dataclass
from fxbio.rules import FeedbackRule, rule

@rule("ternary", aliases=["tern"])
@dataclass(frozen=True)
class Ternary(FeedbackRule):
    """Signs of the large weights."""

    threshold: float = 1.0
    """In units of the mean size of a weight."""
'''


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli, ["rules", *args])


def test_the_table_has_every_rule_with_formula_options_and_paper() -> None:
    result = invoke()
    assert result.exit_code == 0
    for name, cls in available_rules().items():
        line = next(
            line for line in result.stdout.splitlines() if line.split(",")[0].split()[:1] == [name]
        )
        assert (cls.__doc__ or "").splitlines()[0].replace("``", "") in line
        assert cls.paper in line
    assert "magnitude=" in result.stdout


def test_the_table_says_what_each_rule_needs() -> None:
    lines = {line.split(",")[0].split()[0]: line for line in invoke().stdout.splitlines()[2:]}
    assert "weights" in lines["bp"]
    assert "signs" in lines["usf"]
    assert "all but norm and embedding" in lines["dtp"]
    assert "linear, conv1d-3d" in lines["aa"]
    assert "a parameter of the size of W" in lines["kp"]
    assert "fxbio.train_feedback" in lines["l-drl"]
    assert "(fxbio.set_phase)" in lines["dtp"]


def test_piped_output_is_plain() -> None:
    output = invoke().stdout
    assert "\x1b" not in output
    assert all(line == line.rstrip() for line in output.splitlines())


@pytest.mark.parametrize("name", ["fa", "feedback-alignment"])
def test_one_rule_in_full(name: str) -> None:
    output = invoke(name).stdout
    assert output.startswith("fa\n")
    assert "also called: feedback-alignment" in output
    assert "Lillicrap" in output
    assert "distribution=auto" in output
    assert "normal, uniform, or auto" in output


def test_a_rule_without_options_says_so() -> None:
    assert "no options" in invoke("bp").stdout


def test_json() -> None:
    data = json.loads(invoke("--json").stdout)
    assert [item["name"] for item in data] == list(available_rules())
    one = json.loads(invoke("fa", "--json").stdout)
    assert one["aliases"] == ["feedback-alignment"]
    option = next(o for o in one["options"] if o["name"] == "distribution")
    assert option["default"] == "auto"
    assert option["description"].startswith("normal, uniform")


def test_an_unknown_rule() -> None:
    result = invoke("fq")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: unknown rule 'fq'\n")


def test_a_plugin_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    path = tmp_path / "my_rules.py"
    path.write_text(PLUGIN)
    result = invoke("ternary", "--plugin", str(path))
    assert result.exit_code == 0
    assert "also called: tern" in result.stdout
    assert "threshold=1.0  (float)" in result.stdout
    assert "In units of the mean" in result.stdout


def test_a_broken_plugin(tmp_path: Path) -> None:
    path = tmp_path / "my_rules.py"
    path.write_text("import surely_not_installed\n")
    result = invoke("--plugin", str(path))
    assert result.exit_code == 2
    assert "surely_not_installed" in result.stderr
    assert f"{path}:1:1" in result.stderr


def test_error_transforms_are_listed_and_shown() -> None:
    listed = CliRunner().invoke(cli, ["rules", "--transforms", "--json"])
    assert [item["name"] for item in json.loads(listed.stdout)] == list(available_transforms())
    shown = CliRunner().invoke(cli, ["rules", "--transforms", "quantise"])
    assert "bits=8" in shown.stdout
    unknown = CliRunner().invoke(cli, ["rules", "--transforms", "tpok"])
    assert unknown.exit_code == 2
    assert "did you mean 'topk'?" in unknown.stderr
