"""Whether the ``data`` section makes sense, for those who write it in Python."""

from __future__ import annotations

import typing
from dataclasses import fields

from fxbio.errors import DataError, did_you_mean
from fxbio.train.data.base import DataConfig

__all__ = ["check_config"]

_RANGES = {
    "image_size": (0, float("inf")),
    "resize": (0, float("inf")),
    "min_area": (0.0, 1.0),
    "random_erase": (0.0, 1.0),
    "workers": (0, float("inf")),
}


def check_config(config: DataConfig) -> None:
    """Raise for a value that an option cannot have.

    Raises:
        DataError: naming the option and what it may be.
    """
    hints = typing.get_type_hints(DataConfig)
    for field in fields(config):
        allowed = typing.get_args(hints[field.name])
        value = getattr(config, field.name)
        if allowed and value not in allowed:
            raise _not_allowed(field.name, str(value), [str(choice) for choice in allowed])
    for name, (least, most) in _RANGES.items():
        if not least <= getattr(config, name) <= most:
            span = f"from {least} to {most}" if most < float("inf") else f"at least {least}"
            raise DataError(f"data.{name} must be {span}, not {getattr(config, name)}")


def _not_allowed(name: str, value: str, allowed: list[str]) -> DataError:
    guess = did_you_mean(value, allowed)
    notes = [*([guess] if guess else []), f"it may be: {', '.join(allowed)}"]
    return DataError(f"data.{name} cannot be '{value}'", notes=notes)
