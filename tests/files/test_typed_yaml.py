"""The one reader, on a file that no other test has: what is read, and what is said of mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from fxbio.errors import ConfigError, FxbioError, Location, PolicyError
from fxbio.files.fields import AtLeast, Example, Key, Mark, ReadAs
from fxbio.files.located_yaml import Node, from_plain, parse
from fxbio.files.typed_yaml import FieldError, read_section


@dataclass(frozen=True)
class Colour:
    """A colour; a bare text is its name."""

    name: Annotated[str, AtLeast(1), Example("red")]
    """Of the colour."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the paint."""

    @staticmethod
    def of_text(text: str) -> dict[str, str]:
        return {"name": text}


@dataclass(frozen=True)
class Wheel:
    """One wheel."""

    size: float
    """In inches."""

    spokes: Annotated[int | None, Mark.NOT_NULL, AtLeast(3)] = None
    """How many."""

    location: Annotated[Location | None, Mark.UNWRITTEN] = field(default=None, compare=False)

    def checked_at(self, node: Node) -> Wheel:
        if self.size > 99:
            raise node.below["size"].fault("such a wheel rolls nowhere")
        return replace(self, size=self.size * 2)


@dataclass(frozen=True)
class Frame:
    """What holds the rest."""

    kind: Annotated[Literal["steel", "carbon"], Key("of")]
    """Its material."""

    weight: int = 10
    """In kilograms."""


@dataclass(frozen=True)
class Bicycle:
    """A bicycle."""

    frame: Annotated[Frame, Mark.INLINE]

    wheels: Annotated[tuple[Wheel, ...], AtLeast(1)] = ()
    """From the front."""

    colours: tuple[Colour, ...] = ()
    """In stripes."""

    bell: bool = False
    """Whether it has one."""

    manual: Path | None = None
    """A file."""

    maker: Annotated[str, Mark.NEAR_FILE] = ""
    """A reference."""

    extras: Annotated[Mapping[str, Any], Mark.NEAR_FILE] = field(default_factory=dict)
    """More references."""

    price: Annotated[int, ReadAs(lambda node, name: len(str(node.value)), {})] = 0
    """By the number of its digits."""

    gears: tuple[int, ...] = ()
    """Teeth."""

    serial: Annotated[int, Mark.UNWRITTEN] = 7

    def __post_init__(self) -> None:
        if self.bell and self.frame.weight > 20:
            raise FieldError("bell", "is not heard on a tank", ["take a horn"])


def read(text: str, error: type[FxbioError] = ConfigError) -> Bicycle:
    return read_section(parse(text, "lib/b.yaml", "the bicycle", error), Bicycle, "the bicycle")


def test_every_kind_of_value_is_read() -> None:
    here = Path.cwd()
    read_ = read("""\
of: steel
weight: 12
wheels: [{size: 26, spokes: 32}, {size: 27.5}]
colours: [red, {name: blue, options: {matt: true}}]
bell: true
manual: ../m.pdf
maker: make.py:build
extras: {a: {b: x.py}, c: 3}
price: 1000
gears: [11, 13]
""")
    assert read_ == Bicycle(
        Frame("steel", 12), (Wheel(52.0, 32), Wheel(55.0)),
        (Colour("red"), Colour("blue", {"matt": True})),
        True, here / "m.pdf", f"{here / 'lib/make.py'}:build",
        {"a": {"b": str(here / "lib/x.py")}, "c": 3}, 4, (11, 13),
    )  # fmt: skip
    assert isinstance(read_.wheels[0].size, float)
    assert [wheel.location.column for wheel in read_.wheels if wheel.location] == [10, 34]


def test_one_word_is_a_list_of_it() -> None:
    assert read("of: steel\ncolours: red") == read("of: steel\ncolours: [red]")


@pytest.mark.parametrize(
    ("text", "line", "column", "parts"),
    [
        ("[steel]", 1, 1, ["the bicycle must be a mapping, not a list", "of: ..."]),
        ("bell: true", 1, 1, ["the bicycle has no 'of'", "of: Its material."]),
        ("of: wood", 1, 5, ["of must be steel or carbon, not 'wood'"]),
        ("of: steal", 1, 5, ["not 'steal'", "did you mean 'steel'?"]),
        ("of: steel\nbel: 1", 2, 1, ["unknown key 'bel' in the bicycle", "did you mean 'bell'?",
                                    "allowed: of, weight, wheels, colours, bell, manual"]),
        ("of: steel\nsize: 3", 2, 1, ["'size' belongs under 'wheels'"]),
        ("of: steel\nserial: 3", 2, 1, ["unknown key 'serial'"]),
        ("of: steel\nkind: 3", 2, 1, ["unknown key 'kind'"]),
        ("of: steel\nlocation: 3", 2, 1, ["unknown key 'location'"]),
        ("of: steel\ncolours: [{name: a, matt: 1}]", 2, 21,
         ["unknown key 'matt' in entry 1 of 'colours'", "options: {matt: ...}"]),
        ("of: steel\ncolours: ['']", 2, 11, ["entry 1 of 'colours' must be a text or a mapping"]),
        ("of: steel\ncolours: [{name: ''}]", 2, 18, ["name must be a text, not an empty text",
                                                   "name: red"]),
        ("of: steel\ncolours: 3", 2, 10, ["colours must be a text or a list, not 3"]),
        ("of: steel\nwheels: []", 2, 9, ["wheels must be a list of at least 1, not an empty list"]),
        ("of: steel\nwheels: [{size: 1}, 2]", 2, 21,
         ["entry 2 of 'wheels' must be a mapping, not 2"]),
        ("of: steel\nwheels: [{size: true}]", 2, 17, ["size must be a number, not true"]),
        ("of: steel\nwheels: [{size: 1, spokes: 2}]", 2, 28, ["spokes must be at least 3, not 2"]),
        ("of: steel\nwheels: [{size: 1, spokes: ~}]", 2, 28, ["a whole number, not nothing"]),
        ("of: steel\nwheels: [{size: 100}]", 2, 17, ["such a wheel rolls nowhere"]),
        ("of: steel\ngears: 11", 2, 8, ["gears must be a list, not 11"]),
        ("of: steel\ngears: [1.5]", 2, 9, ["gears must be a whole number, not 1.5"]),
        ("of: steel\nbell: yes", 2, 7, ["bell must be true or false, not the text 'yes'"]),
        ("of: steel\nmanual: 3", 2, 9, ["manual must be a path, not 3"]),
        ("of: steel\nextras: a", 2, 9, ["extras must be a mapping, not the text 'a'"]),
        ("of: steel\nweight: 21\nbell: true", 3, 7,
         ["bell is not heard on a tank (in the bicycle)", "take a horn",
          "bell: Whether it has one."]),
    ],
)  # fmt: skip
def test_mistakes_are_pointed_at(text: str, line: int, column: int, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert f"--> lib/b.yaml:{line}:{column}\n" in str(caught.value)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize("error", [ConfigError, PolicyError])
@pytest.mark.parametrize("text", ["of: [", "of: 3", "of: steel\nprise: 3", "of: steel\nof: steel"])
def test_errors_are_of_the_class_of_the_file(error: type[FxbioError], text: str) -> None:
    with pytest.raises(FxbioError) as caught:
        read(text, error)
    assert type(caught.value) is error


@pytest.mark.parametrize("value", [{"of": {1, 2}}, {"of": "steel", "wheels": [{"size": 2**70}]}])
def test_values_from_python_are_read_the_same_way(value: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"cannot hold a set|64 bits"):
        read_section(from_plain(value, ConfigError), Bicycle, "the bicycle")
    assert read_section(from_plain({"of": "steel"}), Bicycle, "it") == read("of: steel")
