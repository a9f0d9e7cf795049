"""Reading one image file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from fxbio.errors import DataError

__all__ = ["EXTENSIONS", "BadImageError", "read_image"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What counts as an image in a folder, in any case; the list of torchvision's ImageFolder."""

_HELP = "replace the file; a bad image for training can be passed over: data.on_bad_image=skip"


class BadImageError(DataError):
    """A file that is not there, or holds no image."""


def read_image(path: str | Path, channels: int) -> Image.Image:
    """An image as RGB (3 channels) or gray (1), whatever the file holds.

    Raises:
        BadImageError: naming the file.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB" if channels == 3 else "L")
    except FileNotFoundError:
        raise BadImageError(f"{path} is missing", help=_HELP) from None
    except Exception as error:  # decoders raise anything when they are given anything
        raise BadImageError(f"{path} cannot be read as an image: {error}", help=_HELP) from error
