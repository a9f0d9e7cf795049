"""From a recipe file and overrides to a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fxbio.errors import ConfigError
from fxbio.files.located_yaml import Node, from_plain, parse
from fxbio.files.presets import resolve_preset
from fxbio.files.reading import read_document
from fxbio.files.typed_yaml import read_section
from fxbio.train.config.override import override
from fxbio.train.config.recipe import Recipe

__all__ = ["load_recipe", "recipe_from", "recipe_of"]


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    Paths in the file are relative to the file, those in overrides to the working directory.

    Args:
        path: a YAML file, or a name that ``fxbio recipes`` lists.
        overrides: ``section.key=value``, in the order in which they take effect.

    Raises:
        ConfigError: with line and column, or with the argument, for the first mistake.
    """
    given, path = Path(path), resolve_preset("recipes", path)
    help = "the recipes that fxbio has are listed by: fxbio recipes"
    text = read_document(path, "recipe", ConfigError, help)
    root = parse(text, str(path), "the recipe", ConfigError)
    here = [] if path == given else _data_here(root)
    return recipe_of(root, [*here, *overrides])


def _data_here(root: Node) -> list[str]:
    """Data of a named recipe lie in the working directory: fxbio may be installed anywhere."""
    sections: Any = root.value
    path = sections["data"].value.get("path")
    return [] if path is None else [f"data.path={str(path.value).replace('../', '')}"]


def recipe_from(sections: Mapping[str, Any], overrides: Iterable[str] = ()) -> Recipe:
    """A recipe from Python values, checked like one from a file.

    Raises:
        ConfigError: for whatever would be wrong in a file.
    """
    return recipe_of(from_plain(sections, ConfigError), overrides)


def recipe_of(root: Node, overrides: Iterable[str]) -> Recipe:
    """A recipe from positioned YAML, which may be a part of another file.

    Raises:
        ConfigError: as for ``load_recipe``.
    """
    for argument in overrides:
        root = override(root, argument)
    return read_section(root, Recipe, "the recipe")
