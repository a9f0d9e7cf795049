"""``fxbio train``: train a model as a recipe says."""

from __future__ import annotations

import os
import shlex
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from fxbio.cli.console import log
from fxbio.cli.main import exit_code
from fxbio.cli.options import NamedPath, PresetPath
from fxbio.errors import FxbioError, ProcessError
from fxbio.train.distributed.launch import first_process, inside_torchrun
from fxbio.train.distributed.signals import watch_signals
from fxbio.train.output.run_folder import RunFolder
from fxbio.train.output.stale_run import leave_unbegun

if TYPE_CHECKING:
    from collections.abc import Callable

    from fxbio.train.engine.run import Outcome
    from fxbio.train.output.run_folder import Resume

__all__ = ["command"]

_SIGNALLED = 128
"""Exit codes above it are of runs that a signal has stopped."""

TRAIN_EXIT_CODES = """Exit codes: 0 done; 1 failed or diverged; 2 wrong usage, recipe, model or
policy; 130 and 143 stopped by Ctrl-C or SIGTERM, after saving. torchrun answers 1 to all of them,
so the run's status.json says it too."""


@click.command("train", short_help="Train a model as a recipe says.", epilog=TRAIN_EXIT_CODES)
@click.argument("recipe_file", metavar="RECIPE", type=PresetPath("recipes"))
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--out",
    "-o",
    type=NamedPath(file_okay=False, path_type=Path),
    help="Folder of the run.  [default: runs/RECIPE]",
)
@click.option(
    "--resume",
    default="no",
    show_default=True,
    metavar="no|auto|FILE",
    help="auto: from the newest whole checkpoint of the folder, or from the beginning.",
)
@click.option("--overwrite", is_flag=True, help="Remove an earlier run in the folder.")
@click.option("--nproc", type=click.IntRange(1), help="Train in so many processes here.")
@click.option("--dry-run", is_flag=True, help="Build everything, take one step, write nothing.")
@click.pass_context
def command(
    ctx: click.Context,
    recipe_file: Path,
    overrides: tuple[str, ...],
    out: Path | None,
    resume: str,
    overwrite: bool,
    nproc: int | None,
    dry_run: bool,
) -> None:
    """Train a model as a recipe says. Any setting of the recipe can be given as KEY=VALUE.

    RECIPE is a file, or a name that `fxbio recipes` lists.
    `fxbio keys` lists the settings and explains them.
    The folder of the run gets the resolved recipe, the plan, metrics, a status and checkpoints.
    A model or rule file that the recipe names is run.

    \b
    Examples:
      fxbio train digits
      fxbio train xiao-resnet18 data.path=/data/imagenet optim.lr=0.2 --out runs/high-lr
      fxbio train xiao-resnet18 --dry-run
      fxbio train digits.yaml --nproc 2 --resume auto
      torchrun --nproc-per-node=8 -m fxbio train xiao-resnet18.yaml --resume auto
    """
    if overwrite and resume != "no":
        raise click.UsageError("--overwrite removes what --resume continues: give one of the two")
    run = RunFolder(out or Path("runs", recipe_file.stem))
    # From here on, for torch takes seconds to import; a dry run may end as it likes.
    with nullcontext() if dry_run else watch_signals(early=partial(_leave, run)):
        from fxbio.train.config import load_recipe
        from fxbio.train.engine.dry_run import dry_run as try_once
        from fxbio.train.engine.run import train

        recipe = load_recipe(recipe_file, overrides)
        if nproc is not None:
            debug = ["--debug"] * ctx.find_root().params["debug"]
            flags = [*["--overwrite"] * overwrite, *["--dry-run"] * dry_run]
            arguments = [*debug, "train", str(recipe_file), *overrides, "--resume", resume, *flags]
            code = _launch(arguments, nproc, run)
            if not dry_run:
                _tell_next(ctx, run, code)
            ctx.exit(code)
    try:
        if dry_run:
            return try_once(recipe, log)
        outcome = _recorded(train)(recipe, run.path, resume=_resume(resume), overwrite=overwrite)
    except FxbioError as error:
        if first_process() or isinstance(error, ProcessError):
            raise
        ctx.exit(exit_code(error))  # the first process says what went wrong in all of them
    assert outcome is not None
    if not inside_torchrun():  # how torchrun was called is not known here
        _tell_next(ctx, run, outcome.exit)
    ctx.exit(outcome.exit)


def _tell_next(ctx: click.Context, run: RunFolder, code: int) -> None:
    """Print the next commands, after a run that is done or was stopped and saved."""
    if code == 0:
        log("evaluate it again with: " + shlex.join(["fxbio", "eval", str(run.path)]))
    elif code > _SIGNALLED and (run.checkpoints / "last.pt").exists():
        log(f"go on with: {_continuing(ctx)}")


def _continuing(ctx: click.Context) -> str:
    """The command as it was called, to go on from the newest checkpoint."""
    given = ctx.params
    options = {"--out": given["out"], "--nproc": given["nproc"], "--resume": "auto"}
    words = [[name, str(value)] for name, value in options.items() if value is not None]
    called = ["fxbio", "train", str(given["recipe_file"]), *given["overrides"]]
    return shlex.join([*called, *chain.from_iterable(words)])


def _leave(run: RunFolder, number: int) -> NoReturn:
    """At once: an exception would not get through everything that is being imported."""
    os._exit(leave_unbegun(run, number))


def _recorded(train: Callable[..., Outcome]) -> Callable[..., Outcome | None]:
    """Hands an error to torchrun's agent, which says in which process it was raised."""
    from torch.distributed.elastic.multiprocessing.errors import record

    return record(train) if inside_torchrun() else train


def _launch(arguments: list[str], processes: int, run: RunFolder) -> int:
    from fxbio.train.distributed.launch import launch
    from fxbio.train.output.status import read_status

    before = read_status(run.status)
    code = launch([*arguments, "--out", str(run.path)], processes)
    if code in (0, 2):
        return code
    status = read_status(run.status)
    stopped = code > _SIGNALLED
    if status is None and stopped:  # before they could say so themselves
        return leave_unbegun(run, code - _SIGNALLED)
    if status is None or status == before:
        return code if stopped else 1
    return status.exit or 1


def _resume(text: str) -> Resume:
    words: dict[str, Resume] = {"no": "no", "auto": "auto"}
    return words.get(text, Path(text))
