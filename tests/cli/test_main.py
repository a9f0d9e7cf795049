from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import click
import pytest
import torch
from click.testing import CliRunner

from fxbio._version import __version__
from fxbio.cli.main import COMMANDS, cli
from fxbio.errors import Location, PolicyError, VerificationError, is_out_of_memory


def run(*args: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from fxbio.cli.main import main; sys.argv[0] = 'fxbio'; main()"
    command = [sys.executable, "-W", "error", "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("args", [(), *((name,) for name in COMMANDS)])
def test_help_does_not_wait_for_torch(args: tuple[str, ...]) -> None:
    code = (
        "import sys\n"
        "from fxbio.cli.main import cli\n"
        f"cli({[*args, '--help']}, standalone_mode=False)\n"
        "heavy = {'torch', 'torchvision', 'rich', 'networkx', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Usage:" in result.stdout


def test_the_help_lists_every_command_with_a_whole_sentence() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    listing = result.output.partition("Commands:")[2]
    for name in COMMANDS:
        line = next(line for line in listing.splitlines() if line.split()[:1] == [name])
        assert line.endswith(".")
        assert "..." not in line


@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_has_examples_and_exit_codes(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert "Examples:\n" in result.output
    assert f"  fxbio {name}" in result.output
    assert "Exit codes: 0 done; 1" in result.output


def test_version() -> None:
    result = CliRunner().invoke(cli, ["--version"])
    assert result.output == f"fxbio {__version__}\n"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["transfrom"], "Did you mean 'transform'?"),
        (["rulse"], "'rules'"),
        (["plan", "resnet18", "--polciy", "x.yaml"], "'--policy'?"),
        (["plan", "resnet18"], "Missing option '--policy'"),
        (["plan", "resnet18", "--policy", "missing.yaml"], "'missing.yaml' does not exist"),
        (["inspect"], "Missing argument 'MODEL'"),
        (["verify", "resnet18"], "needs --policy"),
    ],
)
def test_wrong_usage_exits_2(args: list[str], says: str) -> None:
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Makes the command ``rules`` raise."""

    def arrange(error: BaseException) -> None:
        @click.command("rules")
        def command() -> None:
            raise error

        monkeypatch.setattr("fxbio.cli.rules.command", command)

    return arrange


Raising = Callable[[BaseException], None]

POLICY_ERROR = PolicyError(
    "unknown rule 'fq'",
    location=Location("ss.yaml", 3, 11, "    rule: fq", 2),
    notes=["did you mean 'fa'?"],
    help="list the rules with: fxbio rules",
)


def test_an_error_is_one_message_without_traceback(raising: Raising) -> None:
    raising(POLICY_ERROR)
    result = CliRunner().invoke(cli, ["rules"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "error: unknown rule 'fq'",
        "  --> ss.yaml:3:11",
        "3 |     rule: fq",
        "  |           ^^",
        "  = note: did you mean 'fa'?",
        "  = help: list the rules with: fxbio rules",
    ]


@pytest.mark.parametrize("args", [["--debug", "rules"], ["rules", "--debug"]])
def test_debug_adds_the_traceback_and_keeps_the_exit_code(
    raising: Raising, args: list[str]
) -> None:
    raising(POLICY_ERROR)
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "raise error" in result.stderr
    assert "error: unknown rule 'fq'" in result.stderr


def test_a_failed_verification_exits_1(raising: Raising) -> None:
    raising(VerificationError("conv1 runs backprop"))
    result = CliRunner().invoke(cli, ["rules"])
    assert result.exit_code == 1
    assert result.stderr == "error: conv1 runs backprop\n"


def test_notes_added_on_the_way_are_shown(raising: Raising) -> None:
    error = PolicyError("no such layer")
    error.add_note("pass 1 of 6: assign-rules")
    raising(error)
    stderr = CliRunner().invoke(cli, ["rules"]).stderr
    assert stderr == "error: no such layer\n  = note: pass 1 of 6: assign-rules\n"


def test_an_unexpected_error_exits_1_and_points_to_debug(raising: Raising) -> None:
    raising(ZeroDivisionError("division by zero"))
    result = CliRunner().invoke(cli, ["rules"])
    assert result.exit_code == 1
    assert "error: unexpected ZeroDivisionError: division by zero" in result.stderr
    assert "fxbio --debug" in result.stderr
    assert "Traceback" not in result.stderr


def test_torch_still_says_that_memory_ran_out_in_the_words_looked_for() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**61, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes differ"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 7 bytes\nframe #0"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 7 GiB.\nframe #0"),
    ],
)
def test_memory_that_runs_out_is_said_in_one_line(raising: Raising, error: Exception) -> None:
    raising(error)
    result = CliRunner().invoke(cli, ["rules"])
    assert result.exit_code == 1
    headline, advice = result.stderr.splitlines()
    assert headline.startswith("error: there is not enough memory for that: ")
    assert advice == "  = help: take a smaller model, smaller inputs, or fewer at once"


def test_an_interrupt_exits_130(raising: Raising) -> None:
    raising(KeyboardInterrupt())
    assert CliRunner().invoke(cli, ["rules"]).exit_code == 130


def test_the_console_script_exits_with_the_code() -> None:
    result = run("transfrom")
    assert result.returncode == 2
    assert "Did you mean 'transform'?" in result.stderr
