"""One model of each of timm's families: the smallest, as far as names tell."""

from __future__ import annotations

import torch

__all__ = ["smallest_of_each"]

_SMALL = (
    *("zepto", "atto", "femto", "pico", "nano", "micro", "xxs", "xxtiny", "xtiny", "tiny"),
    *("mini", "xs", "ti_", "xsmall", "small", "_s", "002", "004", "b0", "_t0", "_m0", "18", "26"),
)
"""Parts of names, from the smallest models up."""

_CANDIDATES = 4
"""How many of a family are counted; a family may have a hundred."""


def smallest_of_each() -> list[str]:
    """A name for each module of ``timm.models``, the same at every call."""
    import timm

    listed = [timm.list_models(module=family) for family in timm.list_modules()]
    return [_smallest(names) for names in listed if names]


def _smallest(names: list[str]) -> str:
    """The one with fewest parameters among those whose names sound small."""
    full = [name for name in names if not name.startswith("test_")] or names
    ranked = sorted(full, key=lambda name: (_rank(name), len(name), name))
    return min(ranked[:_CANDIDATES], key=_parameters)


def _rank(name: str) -> int:
    return next((k for k, part in enumerate(_SMALL) if part in name), len(_SMALL))


def _parameters(name: str) -> float:
    import timm

    try:
        with torch.device("meta"):
            model = timm.create_model(name)
    except (NotImplementedError, RuntimeError):
        return float("inf")  # its constructor computes with values, which meta tensors lack
    return sum(parameter.numel() for parameter in model.parameters())
