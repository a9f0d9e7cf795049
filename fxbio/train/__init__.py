"""Training any model under any policy: data, tasks, the loop, and what it leaves behind.

    recipe = fxbio.train.load_recipe("recipe.yaml", ["train.epochs=3"])
    outcome = fxbio.train.train(recipe, "runs/first")

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fxbio.train.config import Recipe, load_recipe
    from fxbio.train.engine.run import Outcome, train

_HOMES = {
    "Outcome": "fxbio.train.engine.run",
    "Recipe": "fxbio.train.config",
    "load_recipe": "fxbio.train.config",
    "train": "fxbio.train.engine.run",
}

__all__ = ["Outcome", "Recipe", "load_recipe", "train"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fxbio.train' has no attribute '{name}'")
