"""``fxbio keys``: what may stand in a recipe and in a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fxbio.cli.catalogue import Item, print_catalogue
from fxbio.cli.main import EXIT_CODES
from fxbio.cli.options import json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["command"]


@click.command("keys", short_help="List the keys of recipes and studies.", epilog=EXIT_CODES)
@click.argument("section", required=False)
@json_option
def command(section: str | None, as_json: bool) -> None:
    """List the keys of recipes and studies with their defaults, or explain those of one section.

    Each key of a recipe is an argument of fxbio train too: optim.lr=0.2.

    \b
    Examples:
      fxbio keys
      fxbio keys optim
      fxbio keys study.axes
    """
    from fxbio.errors import ConfigError, did_you_mean
    from fxbio.study.study_sections import StudyConfig
    from fxbio.train.config import Recipe

    study: dict[str, type[Any]] = {"study": StudyConfig}
    found = {**dict(_inside("", Recipe)), **study, **dict(_inside("study.", StudyConfig))}
    if section is not None and section not in found:
        guess = did_you_mean(section, found)
        raise ConfigError(
            f"there is no section '{section}'",
            notes=[*([guess] if guess else []), f"sections: {', '.join(found)}"],
        )
    shown = found if section is None else {section: found[section]}
    items = [Item.of(cls, name, strict_lists=True) for name, cls in shown.items()]
    print_catalogue(items, single=section is not None, as_json=as_json)


def _inside(
    prefix: str, cls: type[Any], above: tuple[type[Any], ...] = ()
) -> Iterator[tuple[str, type[Any]]]:
    """The sections below a section by their names; of a list, what its entries hold."""
    from fxbio.files.typed_yaml import entry_type, keys_of, section_of

    for option in keys_of(cls).values():
        section = section_of(option.annotated) or section_of(entry_type(option.annotated))
        if section and section not in (*above, cls):  # selectors hold selectors
            yield f"{prefix}{option.key}", section
            yield from _inside(f"{prefix}{option.key}.", section, (*above, cls))
