"""``fxbio new``: a small project to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from fxbio.cli.console import log
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import NamedPath
from fxbio.errors import ConfigError
from fxbio.files.presets import copy_project

__all__ = ["command"]


@click.command("new", short_help="Write a small project to begin with.", epilog=EXIT_CODES)
@click.argument("folder", type=NamedPath(path_type=Path))
def command(folder: Path) -> None:
    """Write a model, a policy, a recipe and a study to FOLDER, which is new or empty.

    The recipe trains on images that it generates, in about half a minute on a CPU.

    \b
    Examples:
      fxbio new shapes
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"'{folder}' is there already, and is no empty folder",
            help="name a folder that does not exist yet",
        )
    written = copy_project(folder)
    log(f"wrote {', '.join(sorted(path.name for path in written))} to {folder}")
    log("go on with:")
    for line in (
        f"cd {shlex.quote(str(folder))}",
        "fxbio plan model.py --policy policy.yaml",
        "fxbio train recipe.yaml",
        "fxbio ablate study.yaml",
    ):
        log(f"  {line}")
