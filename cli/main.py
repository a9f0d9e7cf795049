"""The ``fxbio`` command: finds subcommands when they are asked for, and prints errors.

Nothing here or at the top of a command's file imports torch, so that ``fxbio --help`` is quick.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

import click

from fxbio._version import __version__
from fxbio.errors import (
    FxbioError,
    Stopped,
    TrainError,
    VerificationError,
    is_out_of_memory,
)

__all__ = ["COMMANDS", "EXIT_CODES", "cli", "exit_code", "main"]

COMMANDS = (
    "inspect",
    "plan",
    "graph",
    "transform",
    "verify",
    "audit",
    "alignment",
    "train",
    "eval",
    "runs",
    "ablate",
    "report",
    "data",
    "keys",
    "schema",
    "rules",
    "passes",
)
"""Subcommands in the order of the help; each is ``command`` in the file of its name."""

EXIT_CODES = "Exit codes: 0 done; 1 a check or the run failed; 2 wrong usage, model or policy."

_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130


class LazyGroup(click.Group):
    """A group that imports the file of a command when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"fxbio.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click, which looks for close matches only among commands already imported."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.NoSuchCommand(name, possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As in click; ``--debug`` is taken wherever it stands, for it is added in a hurry."""
        odd = next((arg for arg in args if "\0" in arg or not _is_encodable(arg)), None)
        if odd is not None:
            raise click.UsageError(f"an argument holds what no name of a file can: {odd[:80]!r}")
        if "--debug" in args:
            args = ["--debug", *(arg for arg in args if arg != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors become one message on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            vars(error)["message"] = _shortened(error.message)  # final for type checkers alone
            raise
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click's own business
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(_INTERRUPTED)
        except Exception as error:  # the last place where an error can become a message
            if ctx.params["debug"]:
                traceback.print_exception(error)
            ctx.exit(report(error))


def report(error: Exception) -> int:
    """Print an error the way compilers do; gives the exit code that it calls for."""
    click.secho("error", fg="red", bold=True, nl=False, err=True)
    if is_out_of_memory(error):
        click.echo(f": there is not enough memory for that: {_first_line(error)}", err=True)
        click.echo("  = help: take a smaller model, smaller inputs, or fewer at once", err=True)
    elif isinstance(error, OSError):
        click.echo(f": {_shortened(_of_the_system(error))}", err=True)
    elif isinstance(error, FxbioError):
        notes = (f"  = note: {note}" for note in getattr(error, "__notes__", ()))
        click.echo("\n".join((f": {error}", *notes)), err=True)
    else:
        click.echo(f": unexpected {type(error).__name__}: {_shortened(error)}", err=True)
        click.echo("  = help: see where it comes from with: fxbio --debug ...", err=True)
    return exit_code(error)


def _of_the_system(error: OSError) -> str:
    """Which command could not go on, at which file, and why."""
    context = click.get_current_context(silent=True)
    command = f"fxbio {(context and context.invoked_subcommand) or ''}".strip()
    if error.filename is None:
        return f"{command} cannot go on: {error}"
    return f"{command} cannot go on at '{os.fsdecode(error.filename)}': {error.strerror}"


def _first_line(error: BaseException) -> str:
    return _shortened((str(error) or type(error).__name__).splitlines()[0], 300)


def _shortened(error: object, limit: int = 1000) -> str:
    text = str(error).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else f"{text[:limit]} …"


def _is_encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def exit_code(error: Exception) -> int:
    """1 where a check or a run failed, 2 where it was asked for wrongly, or that of a signal."""
    if isinstance(error, Stopped):
        return error.exit
    failed = not isinstance(error, FxbioError) or isinstance(error, TrainError | VerificationError)
    return _FAILED if failed else _USAGE


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="fxbio", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of errors.")
def cli(debug: bool) -> None:
    """Fxbio, a compiler for credit assignment.

    It captures a PyTorch model, gives each weight-carrying operation the learning rule that a
    YAML policy says, rewrites the backward path, and proves what it did.

    \b
    Examples:
      fxbio inspect torchvision:resnet18
      fxbio plan model.py --policy ss.yaml
      fxbio transform model.py --policy ss.yaml
    """


def main() -> None:
    """Entry point of the console script."""
    sys.exit(cli())
