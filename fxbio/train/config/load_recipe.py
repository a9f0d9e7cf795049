"""From a recipe file and overrides to a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fxbio.errors import ConfigError
from fxbio.files.located_yaml import Node, from_plain, parse
from fxbio.files.reading import read_document
from fxbio.files.typed_yaml import read_section
from fxbio.train.config.override import override
from fxbio.train.config.recipe import Recipe

__all__ = ["load_recipe", "recipe_from", "recipe_of"]


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    Paths in the file are relative to the file, those in overrides to the working directory.

    Args:
        path: a YAML file.
        overrides: ``section.key=value``, in the order in which they take effect.

    Raises:
        ConfigError: with line and column, or with the argument, for the first mistake.
    """
    help = "fxbio comes with recipes in examples/recipes"
    text = read_document(Path(path), "recipe", ConfigError, help)
    return recipe_of(parse(text, str(path), "the recipe", ConfigError), overrides)


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
