"""Shared part of ``fxbio policies`` and ``fxbio recipes``: list presets, print one."""

from __future__ import annotations

import json

import click

from fxbio.errors import ConfigError, PolicyError, did_you_mean
from fxbio.files.presets import Kind, preset_paths, preset_title

__all__ = ["print_presets"]


def print_presets(kind: Kind, name: str | None, *, as_json: bool) -> None:
    """Print names and titles, or the text of one preset.

    Raises:
        PolicyError: for a policy that there is not.
        ConfigError: for such a recipe.
    """
    paths = preset_paths(kind)
    if name is not None:
        text = _text(kind, name)
        click.echo(json.dumps({"name": name, "text": text}) if as_json else text, nl=as_json)
        return
    titles = {name: preset_title(path) for name, path in paths.items()}
    if as_json:
        click.echo(json.dumps([{"name": n, "title": t} for n, t in titles.items()], indent=2))
        return
    width = max(map(len, titles))
    for name, title in titles.items():
        click.echo(f"{name:{width}}  {title}")


def _text(kind: Kind, name: str) -> str:
    paths = preset_paths(kind)
    if name not in paths:
        guess = did_you_mean(name, list(paths))
        notes = [guess] if guess else []
        error = PolicyError if kind == "policies" else ConfigError
        raise error(
            f"fxbio has no {name!r} among its {kind}",
            notes=notes,
            help=f"list them with: fxbio {kind}",
        )
    return paths[name].read_text(encoding="utf-8")
