"""``fxbio rules``: the learning rules and their options."""

from __future__ import annotations

import click

from fxbio.cli.catalogue import Item, print_catalogue
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import json_option, load_plugins, plugin_option

__all__ = ["command"]


@click.command("rules", epilog=EXIT_CODES)
@click.argument("name", required=False)
@plugin_option
@json_option
def command(name: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """List the learning rules, or show one with its options.

    B is the matrix that carries the error back; under backprop it is the weight W itself.

    \b
    Examples:
      fxbio rules
      fxbio rules fa
      fxbio rules --plugin my_rules.py
    """
    from fxbio.rules import available_rules, find_rule

    load_plugins(plugins)
    classes = available_rules().values() if name is None else [find_rule(name)]
    items = [Item.of(cls, cls.name, aliases=cls.aliases, paper=cls.paper) for cls in classes]
    print_catalogue(items, single=name is not None, as_json=as_json)
