"""Bounds of YAML: what it costs to read is bounded, and numbers are numbers for torch."""

from __future__ import annotations

import pytest

from fxbio.errors import FxbioError
from fxbio.files.located_yaml import from_plain, parse
from fxbio.models.model_args import parse_model_args
from fxbio.rules.spec import parse_spec
from fxbio.train.config import recipe_from


def bomb(levels: int, width: int = 9) -> str:
    """Aliases within aliases: ``width ** levels`` values in ``levels * width`` words."""
    text = "&a0 [" + ",".join(["x"] * width) + "]"
    for level in range(1, levels):
        text = f"&a{level} [{text}" + f",*a{level - 1}" * (width - 1) + "]"
    return text


READERS = [
    pytest.param(lambda text: parse(text, "p.yaml"), id="file"),
    pytest.param(lambda text: parse_model_args([f"width={text}"]), id="model argument"),
    pytest.param(lambda text: parse_spec("fa{magnitude=" + text + "}"), id="spec"),
    pytest.param(
        lambda text: recipe_from({"model": {"reference": "x.py"}}, [f"policy.options={text}"]),
        id="override",
    ),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(9), "aliases spelled out"),
        ("[" * 3000 + "]" * 3000, "levels deep"),
        ("1e999", "not finite"),
        (".nan", "not finite"),
        ("-.inf", "not finite"),
        (str(2**64), "64 bits"),
        (str(-(2**63) - 1), "64 bits"),
    ],
    ids=["bomb", "deep", "huge", "nan", "infinite", "above", "below"],
)
def test_values_beyond_bounds_are_refused_by_every_reader(
    read: object, text: str, message: str
) -> None:
    with pytest.raises(FxbioError, match=message):
        read(text)  # type: ignore[operator]


@pytest.mark.parametrize("read", READERS[::2])
def test_long_documents_are_refused(read: object) -> None:
    with pytest.raises(FxbioError, match="more than 50,000 values"):
        read("[" + "x," * 60_000 + "]")  # type: ignore[operator]


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 1e308, 0.0])
def test_the_largest_numbers_are_read_as_they_are(value: float) -> None:
    assert parse(repr(value), "p.yaml").value == value
    assert from_plain(value).value == value


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 2**64])
def test_python_values_have_the_bounds_of_files(value: float) -> None:
    with pytest.raises(FxbioError, match=r"not finite|64 bits"):
        from_plain([value])


def test_aliases_below_the_bound_are_spelled_out() -> None:
    plain = parse(bomb(3, width=4), "p.yaml").plain()
    assert plain == [[["x"] * 4] * 4] * 4


@pytest.mark.parametrize(
    "text",
    ["!foo {a: 1}", "!foo [1]", "!!set {a, b}", "!!omap [a: 1]", "!!map [1]", "!!seq {a: 1}"],
)
@pytest.mark.parametrize("read", READERS)
def test_tags_of_lists_and_mappings_are_refused_as_those_of_words(read: object, text: str) -> None:
    with pytest.raises(FxbioError, match=r"unknown tag|expected a (mapping|sequence)"):
        read(text)  # type: ignore[operator]


def test_the_tags_of_yaml_itself_are_taken() -> None:
    assert parse("!!map {a: !!seq [!!str 1]}", "p.yaml").plain() == {"a": ["1"]}


@pytest.mark.parametrize("character", ["\\0", "\\e", "\\a", "\\x7f", "\\x0b"])
@pytest.mark.parametrize("read", READERS[:1] + READERS[3:])
def test_control_characters_are_refused(read: object, character: str) -> None:
    with pytest.raises(FxbioError, match="control character"):
        read(f'{{name: "a{character}b"}}')  # type: ignore[operator]


def test_a_setting_is_not_nested_without_end() -> None:
    with pytest.raises(FxbioError, match="cannot read the argument"):
        recipe_from({"model": {"reference": "x.py"}}, ["train." + "x." * 5000 + "y=1"])


def test_line_breaks_and_tabs_are_text() -> None:
    assert parse('"a\\tb\\r\\nc\\u2028é"', "p.yaml").value == "a\tb\r\nc\u2028é"
