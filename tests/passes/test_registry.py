from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from fxbio.errors import FxbioError, PassError
from fxbio.passes import DEFAULT_PIPELINE, Pass, available_passes, make_pass, register_pass
from fxbio.plugins import load_plugin


@pytest.fixture
def example() -> type[Pass]:
    @register_pass("an-example")
    @dataclass(frozen=True)
    class Example(Pass):
        width: int
        title: str = "a, b"
        factor: float = 0.5

    return Example


def test_the_built_in_passes_come_first_and_in_order() -> None:
    assert list(available_passes())[: len(DEFAULT_PIPELINE.split(","))] == [
        "assign-rules",
        "check-support",
        "make-feedback",
        "lower-feedback",
        "route-errors",
        "lower-broadcast",
        "lower-local",
        "lower-targets",
        "bind-modules",
        "check-witness",
    ]


def test_registering_gives_the_name(example: type[Pass]) -> None:
    assert example.name == "an-example"
    assert available_passes()["an-example"] is example


def test_what_is_listed_cannot_be_used_to_change_the_registry() -> None:
    available_passes().clear()
    assert "assign-rules" in available_passes()


def test_a_name_is_taken_once(example: type[Pass]) -> None:
    with pytest.raises(PassError, match="two passes are called 'assign-rules'"):
        register_pass("assign-rules")(example)
    assert make_pass("assign-rules").name == "assign-rules"
    register_pass("an-example")(example)  # the same class again is no conflict


def test_two_files_with_one_pass_name_conflict(tmp_path: Path) -> None:
    text = (
        "from fxbio.passes import Pass, register_pass\n"
        "@register_pass('mine')\n"
        "class Mine(Pass):\n"
        "    pass\n"
    )
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(text)
    load_plugin(tmp_path / "a" / "mine.py")
    load_plugin(tmp_path / "a" / "mine.py")
    with pytest.raises(PassError, match="two passes are called 'mine'"):
        load_plugin(tmp_path / "b" / "mine.py")


@pytest.mark.parametrize(
    "options",
    [
        {"width": 1},
        {"width": -3, "title": "x"},
        {"width": 2, "title": "commas, {braces} and 'quotes'", "factor": 1e-07},
        {"width": 2, "title": ""},
        {"width": 2, "title": "12"},
        {"width": 2, "title": "true"},
    ],
)
def test_specs_print_and_parse(example: type[Pass], options: dict[str, object]) -> None:
    step = example(**options)
    assert make_pass(str(step)) == step


def test_a_pass_without_options_prints_as_its_name() -> None:
    assert str(make_pass(" bind-modules ")) == "bind-modules"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("assign-rulse", "unknown pass 'assign-rulse'\n  = note: did you mean 'assign-rules'?"),
        ("xyz", "known passes: assign-rules, check-support"),
        ("an-example{widht=3}", "has no option 'widht'\n  = note: did you mean 'width'?"),
        ("an-example{width=3,foo=1}", "its options: width, title, factor"),
        ("bind-modules{full=true}", "pass 'bind-modules' has no option 'full'"),
        ("an-example{width=wide}", "option 'width' of pass 'an-example' cannot be 'wide'"),
        ("an-example", "pass 'an-example' needs a value for 'width'"),
    ],
)
def test_a_wrong_spec(example: type[Pass], spec: str, says: str) -> None:
    with pytest.raises(PassError) as caught:
        make_pass(spec)
    assert says in str(caught.value)


@pytest.mark.parametrize("spec", ["Assign", "assign-rules{", "an-example{width}", ""])
def test_what_is_no_spec(example: type[Pass], spec: str) -> None:
    with pytest.raises(FxbioError):
        make_pass(spec)
