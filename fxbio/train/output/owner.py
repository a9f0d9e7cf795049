"""Runs of this user and of others: what a recipe names is code, and runs when it is built."""

from __future__ import annotations

from fxbio.errors import ConfigError
from fxbio.files.trust import check_trust
from fxbio.train.config import Recipe
from fxbio.train.output.run_folder import RunFolder

__all__ = ["check_run"]


def check_run(run: RunFolder, recipe: Recipe, trust: bool = False) -> None:
    """Refuse to build the model of a run that somebody else has made.

    Args:
        run: whose ``config.yaml`` is signed when this user trains it.
        recipe: of the run.
        trust: what the caller says.

    Raises:
        ConfigError: with what the recipe names.
    """
    check_trust(
        run.config,
        _named_code(recipe),
        trust,
        error=ConfigError,
        otherwise="or train it by a recipe of your own",
    )


def _named_code(recipe: Recipe) -> list[str]:
    """Names of code that building the model imports and calls."""
    model, policy = recipe.model, recipe.policy
    arguments = "".join(f", {key}={value!r}" for key, value in model.args.items())
    inverse = policy.options.get("inverse")
    return [
        f"model: {model.reference}{arguments}",
        *(f"plug-in: {plugin}" for plugin in policy.plugins),
        *([f"inverse: {inverse}"] if inverse else []),
        *([f"policy, which may name inverses: {policy.file}"] if policy.file else []),
    ]
