"""Pictures of five shapes, which differ in everything but what has to be learned."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

__all__ = ["SHAPES", "Placed", "background", "draw_shape", "random_colour"]

SHAPES = ("circle", "square", "triangle", "cross", "ring")

Colour = tuple[int, int, int]
_VARIATION = 0.25
"""How much the background varies: 0 is one colour, 1 anything."""
_CONTRAST = 200
"""How far the colour of a shape is from what is behind it, over the three channels."""


@dataclass(frozen=True)
class Placed:
    """A shape with its place: the centre, and half of its side."""

    shape: str
    x: int
    y: int
    radius: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom; the last two are outside."""
        r = self.radius
        return self.x - r, self.y - r, self.x + r, self.y + r


def background(rng: random.Random, width: int, height: int) -> Image.Image:
    """A smooth random field of colours around one."""
    field = Image.frombytes("RGB", (4, 4), rng.randbytes(4 * 4 * 3))
    flat = Image.frombytes("RGB", (1, 1), rng.randbytes(3)).resize(field.size)
    mixed = Image.blend(flat, field, _VARIATION)
    return mixed.resize((width, height), Image.Resampling.BICUBIC)


def random_colour(rng: random.Random, behind: Colour) -> Colour:
    """A colour that can be told from the one behind it."""
    while True:
        colour = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        if sum(abs(a - b) for a, b in zip(colour, behind, strict=True)) >= _CONTRAST:
            return colour


def draw_shape(rng: random.Random, image: Image.Image, placed: Placed) -> None:
    """Draw a shape in a random colour."""
    behind = image.getpixel((placed.x, placed.y))
    assert isinstance(behind, tuple)
    colour = random_colour(rng, (int(behind[0]), int(behind[1]), int(behind[2])))
    _DRAW[placed.shape](ImageDraw.Draw(image), placed, colour)


def _circle(draw: ImageDraw.ImageDraw, placed: Placed, colour: Colour) -> None:
    draw.ellipse(_inside(placed), fill=colour)


def _square(draw: ImageDraw.ImageDraw, placed: Placed, colour: Colour) -> None:
    draw.rectangle(_inside(placed), fill=colour)


def _triangle(draw: ImageDraw.ImageDraw, placed: Placed, colour: Colour) -> None:
    left, top, right, bottom = _inside(placed)
    draw.polygon([(placed.x, top), (right, bottom), (left, bottom)], fill=colour)


def _cross(draw: ImageDraw.ImageDraw, placed: Placed, colour: Colour) -> None:
    left, top, right, bottom = _inside(placed)
    arm = max(1, placed.radius // 3)
    draw.rectangle((left, placed.y - arm, right, placed.y + arm), fill=colour)
    draw.rectangle((placed.x - arm, top, placed.x + arm, bottom), fill=colour)


def _ring(draw: ImageDraw.ImageDraw, placed: Placed, colour: Colour) -> None:
    draw.ellipse(_inside(placed), outline=colour, width=max(1, placed.radius // 3))


def _inside(placed: Placed) -> tuple[int, int, int, int]:
    """The corners as PIL has them: it draws the right and the bottom one too."""
    left, top, right, bottom = placed.corners
    return left, top, right - 1, bottom - 1


_DRAW: dict[str, Callable[[ImageDraw.ImageDraw, Placed, Colour], None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
}
