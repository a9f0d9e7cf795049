"""A picture as PNG, by CairoSVG."""

from __future__ import annotations

import importlib
from typing import Any

from fxbio.errors import ConfigError
from fxbio.viz.picture import Picture
from fxbio.viz.svg import svg

__all__ = ["converter", "png"]

_SCALE = 2.0
"""Pixels per unit of the drawing, for sharp text."""


def png(picture: Picture) -> bytes:
    """The picture as the contents of a PNG file.

    Raises:
        ConfigError: as ``converter``.
    """
    data: bytes = converter().svg2png(bytestring=svg(picture).encode(), scale=_SCALE)
    return data


def converter() -> Any:
    """The module of CairoSVG.

    Raises:
        ConfigError: when it is not installed, or misses the library that it needs.
    """
    try:
        return importlib.import_module("cairosvg")
    except (ImportError, OSError) as error:  # OSError: the shared library of cairo is missing
        raise ConfigError(
            "PNG needs CairoSVG, which cannot be imported",
            notes=[str(error)],
            help="install it: pip install 'fxbio[png]' (and the library cairo); "
            "or write .svg or .html, which need nothing",
        ) from error
