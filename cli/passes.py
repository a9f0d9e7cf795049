"""``fxbio passes``: the passes and their options."""

from __future__ import annotations

import click

from fxbio.cli.catalogue import Item, print_catalogue
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import json_option, load_plugins, plugin_option
from fxbio.errors import PassError, did_you_mean

__all__ = ["command"]


@click.command("passes", epilog=EXIT_CODES)
@click.argument("name", required=False)
@plugin_option
@json_option
def command(name: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """List the passes, or show one with its options.

    \b
    Examples:
      fxbio passes
      fxbio passes --plugin my_passes.py --json
    """
    from fxbio.passes import available_passes

    load_plugins(plugins)
    classes = available_passes()
    if name is not None and name not in classes:
        guess = did_you_mean(name, classes)
        raise PassError(
            f"unknown pass '{name}'",
            notes=[*([guess] if guess else []), f"known passes: {', '.join(classes)}"],
        )
    chosen = classes if name is None else {name: classes[name]}
    items = [Item.of(cls, key) for key, cls in chosen.items()]
    print_catalogue(items, single=name is not None, as_json=as_json)
