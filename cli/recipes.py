"""``fxbio recipes``: the recipes that come with fxbio."""

from __future__ import annotations

import click

from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import json_option
from fxbio.cli.print_presets import print_presets

__all__ = ["command"]


@click.command("recipes", short_help="List the recipes that come with fxbio.", epilog=EXIT_CODES)
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the recipes that come with fxbio, or print one.

    Their names stand wherever a recipe is asked for; a file of the same name goes first.

    \b
    Examples:
      fxbio recipes
      fxbio recipes digits
      fxbio train digits
    """
    print_presets("recipes", name, as_json=as_json)
