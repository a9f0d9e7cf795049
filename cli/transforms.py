"""``fxbio transforms``: the error transforms and their options."""

from __future__ import annotations

import click

from fxbio.cli.catalogue import Item, print_catalogue
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import json_option, load_plugins, plugin_option

__all__ = ["command"]


@click.command("transforms", epilog=EXIT_CODES)
@click.argument("name", required=False)
@plugin_option
@json_option
def command(name: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """List the error transforms, or show one with its options.

    They are written in a policy beside the rule, as error: topk{share=0.1}.

    \b
    Examples:
      fxbio transforms
      fxbio transforms topk
    """
    from fxbio.transforms import available_transforms, find_transform

    load_plugins(plugins)
    classes = available_transforms().values() if name is None else [find_transform(name)]
    items = [Item.of(cls, cls.name, paper=cls.paper) for cls in classes]
    print_catalogue(items, single=name is not None, as_json=as_json)
