"""``fxbio policies``: the policies that come with fxbio."""

from __future__ import annotations

import click

from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import json_option
from fxbio.cli.print_presets import print_presets

__all__ = ["command"]


@click.command("policies", short_help="List the policies that come with fxbio.", epilog=EXIT_CODES)
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the policies that come with fxbio, or print one.

    Their names stand wherever a policy is asked for; a file of the same name goes first.

    \b
    Examples:
      fxbio policies
      fxbio policies xiao-resnet > mine.yaml
      fxbio plan torchvision:resnet18 --policy xiao-resnet
    """
    print_presets("policies", name, as_json=as_json)
