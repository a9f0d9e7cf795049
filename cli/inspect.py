"""``fxbio inspect``: the sites of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fxbio.cli.console import print_json, print_result
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import MODEL_HELP, ModelRequest, json_option, model_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from fxbio.site import Site, Unreachable

__all__ = ["command"]


@click.command(
    "inspect",
    short_help="List the sites of a model.",
    epilog=f"{MODEL_HELP}\n\n{EXIT_CODES}",
)
@model_options()
@json_option
def command(request: ModelRequest, as_json: bool) -> None:
    """List the sites of a model: each use of a weight by a linear operation.

    The first column is what the selectors of a policy match. What cannot be captured is listed
    with its reason.

    \b
    Examples:
      fxbio inspect torchvision:resnet18
      fxbio inspect model.py:build --model-arg width=64 --input 1x3x64x64
      fxbio inspect timm:vit_tiny_patch16_224 --json
    """
    import fxbio

    loaded, inputs = request.load()
    graph = fxbio.capture(loaded.model, inputs)
    if as_json:
        print_json(graph.to_dict())
        return
    print_result(site_table(graph.sites))
    print_result(summary(graph.sites))
    if graph.unreachable:
        print_result(unreachable_table(graph.unreachable))


def site_table(sites: Sequence[Site]) -> Table:
    """One row per site, in order of execution."""
    table = _table("site", "op", "weight", "parameters", "depth", "type", right=(3, 4))
    for site in sites:
        reason = f"unreachable: {site.unreachable}" if site.unreachable else site.type
        shape = "×".join(str(size) for size in site.shape)
        op = f"{site.op}, {site.groups} groups" if site.groups > 1 else site.op
        table.add_row(site.name, op, shape, f"{site.parameters:,}", str(site.depth), reason)
    return table


def summary(sites: Sequence[Site]) -> str:
    """Number of weights, those used several times counted once."""
    weights = {site.sources: site.parameters for site in sites}
    attention = sum(site.attention for site in sites)
    inside = f", {attention} of them in attention" if attention else ""
    return (
        f"{len(sites)} sites{inside}, {len({site.weight for site in sites})} weights, "
        f"{sum(weights.values()):,} parameters"
    )


def unreachable_table(parts: Sequence[Unreachable]) -> Table:
    """Table of weights that no rule can be given, with reasons."""
    table = _table("unreachable", "reason", "where", "weights")
    for part in parts:
        where = str(part.origin) if part.origin else ""
        table.add_row(
            part.path or "(the model itself)", part.reason, where, "\n".join(part.weights)
        )
    return table


def _table(*columns: str, right: tuple[int, ...] = ()) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for position, column in enumerate(columns):
        justify: Any = "right" if position in right else "left"
        table.add_column(column, justify=justify, overflow="fold")
    return table
