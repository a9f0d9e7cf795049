"""``fxbio train``: train a model as a recipe says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxbio.cli.console import log
from fxbio.cli.main import exit_code
from fxbio.errors import FxbioError, ProcessError

if TYPE_CHECKING:
    from fxbio.train.config import Recipe
    from fxbio.train.output.folder import Resume

__all__ = ["command"]

TRAIN_EXIT_CODES = """Exit codes: 0 done; 1 failed or diverged; 2 wrong usage, recipe, model or
policy; 130 and 143 stopped by Ctrl-C or SIGTERM, after saving. torchrun answers 1 to all of them,
so the run's status.json says it too."""


@click.command("train", short_help="Train a model as a recipe says.", epilog=TRAIN_EXIT_CODES)
@click.argument("recipe_file", metavar="RECIPE", type=click.Path(path_type=Path))
@click.argument("overrides", metavar="[KEY=VALUE]...", nargs=-1)
@click.option(
    "--out",
    "-o",
    type=click.Path(file_okay=False, path_type=Path),
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

    The folder of the run gets the resolved recipe, the plan, metrics, a status and checkpoints.
    A model or rule file that the recipe names is run.

    \b
    Examples:
      fxbio train digits.yaml
      fxbio train xiao-resnet18.yaml data.path=/data/imagenet optim.lr=0.2 --out runs/high-lr
      fxbio train xiao-resnet18.yaml --dry-run
      fxbio train digits.yaml --nproc 2 --resume auto
      torchrun --nproc-per-node=8 -m fxbio train xiao-resnet18.yaml --resume auto
    """
    from fxbio.train.config import load_recipe

    if overwrite and resume != "no":
        raise click.UsageError("--overwrite removes what --resume continues: give one of the two")
    folder = out or Path("runs", recipe_file.stem)
    recipe = load_recipe(recipe_file, overrides)
    if nproc is not None:
        flags = [*["--overwrite"] * overwrite, *["--dry-run"] * dry_run]
        arguments = ["train", str(recipe_file), *overrides, "--resume", resume, *flags]
        ctx.exit(
            _launch([*["--debug"] * ctx.find_root().params["debug"], *arguments], nproc, folder)
        )
    try:
        ctx.exit(_here(recipe, folder, _resume(resume), overwrite, dry_run))
    except FxbioError as error:
        if os.environ.get("RANK", "0") == "0" or isinstance(error, ProcessError):
            raise
        ctx.exit(exit_code(error))  # the first process says what went wrong in all of them


def _here(recipe: Recipe, folder: Path, resume: Resume, overwrite: bool, dry_run: bool) -> int:
    from torch.distributed.elastic.multiprocessing.errors import record

    from fxbio.train.engine.dry_run import dry_run as try_once
    from fxbio.train.engine.run import train
    from fxbio.train.parallel.launch import inside_torchrun

    if dry_run:
        try_once(recipe, log)
        return 0
    # record() hands an error to torchrun's agent, which says in which process it was raised.
    run = record(train) if inside_torchrun() else train
    outcome = run(recipe, folder, resume=resume, overwrite=overwrite)
    assert outcome is not None
    return outcome.exit


def _launch(arguments: list[str], processes: int, folder: Path) -> int:
    from fxbio.train.output.folder import RunFolder
    from fxbio.train.output.status import read_status
    from fxbio.train.parallel.launch import launch

    code = launch([*arguments, "--out", str(folder)], processes)
    if code in (0, 2):
        return code
    status = read_status(RunFolder(folder).status)
    return 1 if status is None or not status.exit else status.exit


def _resume(text: str) -> Resume:
    words: dict[str, Resume] = {"no": "no", "auto": "auto"}
    return words.get(text, Path(text))
