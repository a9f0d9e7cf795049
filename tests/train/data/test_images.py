"""Files of every kind become 8-bit images of the right colours."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fxbio.errors import DataError
from fxbio.train.data.images import BadImageError, read_image

COLOUR = (200, 100, 50)
GRAY = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
"""Luma as ITU-R 601 defines it."""

EXIF_ORIENTATION, TURNED_LEFT = 0x0112, 6


PIXELS = {
    "RGB": COLOUR,
    "RGBA": (*COLOUR, 0),
    "CMYK": (55, 155, 205, 0),
    "L": GRAY,
    "LA": (GRAY, 0),
    "P": 0,
}
"""The colour, or its gray, in each mode; where there is transparency, it is invisible."""


def filled(mode: str) -> Image.Image:
    image = Image.new(mode, (5, 4), PIXELS[mode])
    if mode == "P":
        image.putpalette(COLOUR)
    return image


@pytest.mark.parametrize(
    ("mode", "suffix", "options"),
    [
        ("RGB", "png", {}),
        ("RGB", "jpg", {"quality": 100}),
        ("RGB", "webp", {"lossless": True}),
        ("RGBA", "png", {}),
        ("CMYK", "jpg", {"quality": 100}),
        ("CMYK", "tif", {}),
        ("P", "png", {}),
        ("P", "png", {"transparency": b"\x00"}),
        ("L", "png", {}),
        ("L", "jpg", {"quality": 100}),
        ("LA", "png", {}),
    ],
)
def test_colours(mode: str, suffix: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    filled(mode).save(path, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        colour, gray = (np.asarray(read_image(path, channels)) for channels in (3, 1))
    assert (colour.shape, gray.shape) == ((4, 5, 3), (4, 5))
    expected = (GRAY,) * 3 if mode in ("L", "LA") else COLOUR
    assert np.abs(colour.astype(int) - expected).max() <= 2
    assert np.abs(gray.astype(int) - GRAY).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_of_16_bits_the_upper_8_are_kept(suffix: str, channels: int, tmp_path: Path) -> None:
    deep = np.arange(0, 2**16, 97, dtype=np.uint16)[None]
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    read = np.asarray(read_image(tmp_path / f"deep.{suffix}", channels)).reshape(-1, channels)
    assert (read == (deep.T >> 8)).all()


def test_one_bit_is_black_or_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "bits.png")
    assert np.asarray(read_image(tmp_path / "bits.png", 1)).tolist() == [[0, 255]]


def test_numbers_of_unknown_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(BadImageError, match="numbers of an unknown range"):
        read_image(tmp_path / "float.tif", 3)


def test_a_rotation_in_the_exif_data_is_not_carried_out(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = TURNED_LEFT
    Image.new("RGB", (5, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg", 3).size == (5, 4)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg is missing"):
        read_image(tmp_path / "gone.jpg", 3)
