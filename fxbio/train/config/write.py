"""A recipe as data and as YAML, with every default spelled out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxbio.files.yaml_scalars import to_yaml
from fxbio.train.config.recipe import Recipe

__all__ = ["differences", "recipe_dict", "recipe_yaml"]


def recipe_dict(recipe: Recipe) -> dict[str, Any]:
    """Sections with all their keys, in plain types."""
    return {name: _plain(section) for name, section in _fields(recipe).items()}


def recipe_yaml(recipe: Recipe) -> str:
    """YAML that reads back as an equal recipe."""
    return to_yaml(recipe_dict(recipe))


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Keys with other values, one line each: ``optim.lr: 0.1 -> 0.2``."""
    before, after = _flat(recipe_dict(old)), _flat(recipe_dict(new))
    return [
        f"{key}: {before.get(key)} -> {after.get(key)}"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]


def _fields(section: Any) -> dict[str, Any]:
    return {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {name: _plain(item) for name, item in _fields(value).items()}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _flat(sections: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in sections.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
