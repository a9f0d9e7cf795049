"""Recipes: what a training run is made of, from YAML and from the command line."""

from fxbio.train.config.load_recipe import load_recipe, recipe_from
from fxbio.train.config.recipe import Recipe
from fxbio.train.config.write import recipe_dict, recipe_yaml

__all__ = ["Recipe", "load_recipe", "recipe_dict", "recipe_from", "recipe_yaml"]
