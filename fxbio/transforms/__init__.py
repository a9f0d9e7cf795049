"""Error transforms: what is done to the error where it enters a site, with any feedback rule."""

from fxbio.transforms import precision, sparsity  # noqa: F401  (they register transforms)
from fxbio.transforms.base import (
    ErrorTransform,
    SiteValues,
    available_transforms,
    error_transform,
    find_transform,
    parse_transform,
)

__all__ = [
    "ErrorTransform",
    "SiteValues",
    "available_transforms",
    "error_transform",
    "find_transform",
    "parse_transform",
]
