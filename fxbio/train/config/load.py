"""From a recipe file and overrides to a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fxbio.errors import ConfigError, PolicyError, did_you_mean
from fxbio.files.located_yaml import Node, from_plain, parse
from fxbio.files.reading import read_text
from fxbio.train.config.override import override
from fxbio.train.config.read import as_config_error, read_section
from fxbio.train.config.recipe import Recipe

__all__ = ["load_recipe", "read_config", "recipe_from", "recipe_of"]


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    Paths in the file are relative to the file, those in overrides to the working directory.

    Args:
        path: a YAML file.
        overrides: ``section.key=value``, in the order in which they take effect.

    Raises:
        ConfigError: with line and column, or with the argument, for the first mistake.
    """
    return recipe_of(_parsed(Path(path)), overrides)


def recipe_from(sections: Mapping[str, Any], overrides: Iterable[str] = ()) -> Recipe:
    """A recipe from Python values, checked like one from a file.

    Raises:
        ConfigError: for whatever would be wrong in a file.
    """
    return recipe_of(from_plain(sections), overrides)


def recipe_of(root: Node, overrides: Iterable[str]) -> Recipe:
    """A recipe from positioned YAML, which may be a part of another file.

    Raises:
        ConfigError: as for ``load_recipe``.
    """
    for argument in overrides:
        root = override(root, argument)
    return read_section(root, Recipe, "the recipe")


def _parsed(path: Path) -> Node:
    text = read_config(path, "recipe", "recipes in examples/recipes")
    try:
        return parse(text, str(path), what="the recipe")
    except PolicyError as error:
        raise as_config_error(error) from error


def read_config(path: Path, kind: str, shipped: str) -> str:
    """The text of a file in YAML.

    Args:
        path: of the file.
        kind: what it is, for messages.
        shipped: what fxbio comes with, for the help of a missing one.

    Raises:
        ConfigError: when there is none, with close names, or it cannot be read.
    """
    try:
        return read_text(path, encoding="utf-8-sig")
    except FileNotFoundError as error:
        guess = did_you_mean(path.name, [p.name for p in path.parent.glob("*.yaml")])
        raise ConfigError(
            f"there is no {kind} '{path}'",
            notes=[guess] if guess else [],
            help=f"fxbio comes with {shipped}",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the {kind} '{path}' cannot be read: {error}") from error
