"""``fxbio rules``: the learning rules and their options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fxbio.cli.catalogue import Item, print_catalogue
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import json_option, load_plugins, plugin_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fxbio.rules import Rule

__all__ = ["command"]


@click.command("rules", epilog=EXIT_CODES)
@click.argument("name", required=False)
@click.option("--transforms", is_flag=True, help="Error transforms instead of rules.")
@plugin_option
@json_option
def command(name: str | None, transforms: bool, plugins: tuple[str, ...], as_json: bool) -> None:
    """List the learning rules, or show one with its options.

    With --transforms it lists what a policy may do to the error beside a rule (error: sign).
    B is the matrix that carries the error back; under backprop it is the weight W itself.

    \b
    Examples:
      fxbio rules
      fxbio rules fa
      fxbio rules --transforms
      fxbio rules --plugin my_rules.py
    """
    load_plugins(plugins)
    items = _transforms(name) if transforms else _rules(name)
    print_catalogue(items, single=name is not None, as_json=as_json)


def _rules(name: str | None) -> list[Item]:
    from fxbio.rules import available_rules, find_rule

    classes = available_rules().values() if name is None else [find_rule(name)]
    return [Item.of(cls, cls.name, cls.aliases, cls.paper, _facts(cls)) for cls in classes]


def _transforms(name: str | None) -> list[Item]:
    from fxbio.transforms import available_transforms, find_transform

    classes = available_transforms().values() if name is None else [find_transform(name)]
    return [Item.of(cls, cls.name, paper=cls.paper) for cls in classes]


def _facts(cls: type[Rule]) -> dict[str, str]:
    """Needs of a rule, by the title of the column."""
    return {
        "family": cls.family,
        "reads of W": cls.transports,
        "extra memory": cls.memory(),
        "besides backward()": cls.calls,
        "serves": _served(cls.ops),
    }


def _served(ops: Sequence[str]) -> str:
    """Operations in few words; the dimensions of a kind together, as ``conv1d-3d``."""
    from fxbio.site import OP_KINDS

    missing = [op for op in OP_KINDS if op not in ops]
    if len(missing) <= 2:
        return f"all but {' and '.join(missing)}" if missing else "all"
    kinds = {op.rstrip("d").rstrip("123"): op for op in ops}
    return ", ".join(kind if op == kind else f"{kind}1d-3d" for kind, op in kinds.items())
