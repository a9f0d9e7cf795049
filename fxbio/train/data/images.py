"""Reading one image file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from fxbio.errors import DataError
from fxbio.files.reading import require_regular_file

__all__ = ["EXTENSIONS", "BadImageError", "read_image"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What counts as an image in a folder, in any case; the list of torchvision's ImageFolder."""

_HELP = "replace the file; a bad one in the training half is passed over: data.on_bad_image=skip"


class BadImageError(DataError):
    """A file that is not there, or holds no image."""


def read_image(path: str | Path, channels: int) -> Image.Image:
    """An image as RGB (3 channels) or gray (1), 8 bits each, whatever the file holds.

    As in torchvision, transparency is dropped and a rotation in the EXIF data is not carried out.

    Raises:
        BadImageError: naming the file.
    """
    mode = "RGB" if channels == 3 else "L"
    try:
        with Image.open(require_regular_file(path)) as image:
            image.load()
            return image if image.mode == mode else _eight_bits(image).convert(mode)
    except FileNotFoundError:
        raise BadImageError(f"{path} is missing", help=_HELP) from None
    except Exception as error:  # decoders raise anything when they are given anything
        raise BadImageError(f"{path} cannot be read as an image: {error}", help=_HELP) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image as Pillow can convert it without a loss or a warning.

    Of more than 8 bits ``convert`` would keep the lowest: nearly everything would be white.
    """
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value * (1 / 256))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are numbers of an unknown range (mode {image.mode})")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    return image
