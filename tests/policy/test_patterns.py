from __future__ import annotations

import pytest

import fxbio.globs
from fxbio.errors import PolicyError
from fxbio.globs import glob_fault, glob_matches, regex_fault, suggest_paths
from fxbio.policy import Policy

PATHS = ["backbone.layer1.0.conv1", "backbone.layer1.1.conv1", "backbone.layer2.0.conv1", "head.fc"]


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("backbone", "backbone", True),
        ("backbone", "backbone.conv1", False),
        ("backbone.*", "backbone.conv1", True),
        ("backbone.*", "backbone", False),
        ("backbone.*", "backbone.layer1.conv1", False),
        ("backbone.**", "backbone", True),
        ("backbone.**", "backbone.layer1.0.conv1", True),
        ("backbone.**", "backbone2.conv1", False),
        ("**", "", True),
        ("**", "a.b.c", True),
        ("*", "", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("**.conv1", "conv1", True),
        ("**.conv1", "a.b.conv1", True),
        ("**.conv1", "a.xconv1", False),
        ("a.**.z", "a.z", True),
        ("a.**.z", "a.b.c.z", True),
        ("a.**.z", "a.b.c", False),
        ("layer*.conv", "layer12.conv", True),
        ("layer*.conv", "layer.conv", True),
        ("layer*.conv", "layer1.0.conv", False),
        ("l*r*", "layer4", True),
        ("a.*.*.d", "a.b.c.d", True),
        ("a.*.*.d", "a.b.d", False),
        ("a.b", "axb", False),
        ("a.[bc]", "a.b", False),
        ("A", "a", False),
    ],
)
def test_glob_matches_by_segment(glob: str, path: str, expected: bool) -> None:
    assert glob_matches(glob, path) is expected


@pytest.mark.parametrize("glob", ["a..b", ".a", "a.", "", "a**", "a.b**.c", "a.**::conv"])
def test_malformed_globs_have_a_fault(glob: str) -> None:
    assert glob_fault(glob)


@pytest.mark.parametrize("glob", ["**", "a", "a.*", "**.conv*", "a.**.b"])
def test_wellformed_globs_have_none(glob: str) -> None:
    assert glob_fault(glob) is None


@pytest.mark.parametrize(
    ("glob", "notes"),
    [
        ("bacbone.**",
         ["did you mean 'backbone'?", "at the top of the model there is: backbone, head"]),
        ("backbone.layr2.0.conv1",
         ["did you mean 'layer2' or 'layer1'?", "below 'backbone' there is: layer1, layer2"]),
        ("backbone.*.*.conv9",
         ["did you mean 'conv1'?", "below 'backbone.*.*' there is: conv1"]),
        ("backbone.layer1",
         ["'backbone.layer1' holds sites below it, not in itself: write 'backbone.layer1.**'"]),
    ],
)  # fmt: skip
def test_suggestions_name_what_is_there(glob: str, notes: list[str]) -> None:
    assert suggest_paths(glob, PATHS) == notes


def test_long_lists_of_names_are_shortened() -> None:
    assert suggest_paths("x", [f"m{i}" for i in range(15)])[-1].endswith("m11 and 3 more")


@pytest.mark.parametrize(
    "glob", [".".join(["**"] * 60) + ".zzz", "*a" * 30 + "b", "**." + "a*" * 30 + "b.**.c"]
)
def test_many_stars_take_no_exponential_time(glob: str) -> None:
    assert not glob_matches(glob, ".".join(["a" * 60] * 40))


@pytest.mark.parametrize(
    "regex",
    ["(x+x+)+y", "((([a-z1]+)+)+)+!", "(a|[a-z0-9.]|.)+y", "(?:a{1,60000}){1,60000}", "(a*)*b"],
)
def test_repeats_that_backtrack_exponentially_are_refused(regex: str) -> None:
    assert "forever" in (regex_fault(regex) or "")


@pytest.mark.parametrize("regex", ["a{99999999999}", "(" * 200 + ")" * 200 + "[", "a" * 501])
def test_regular_expressions_beyond_bounds_are_refused(regex: str) -> None:
    assert regex_fault(regex)


@pytest.mark.parametrize(
    "regex",
    [r"layer[1-4]\..*conv\d+", "(a|b)", "(ab)+", r"(a\+)+", "([a+])+", "(?:bn|conv)1?", "(?i)a.*"],
)
def test_regular_expressions_without_nested_repeats_are_taken(regex: str) -> None:
    assert regex_fault(regex) is None


@pytest.mark.parametrize(
    "regex",
    ["a?" * 26 + "a" * 26, "(a|a)" * 26 + "b", ".*" * 6 + "b", "(a|ab|b|c)" * 13, "x+" * 99],
)
def test_so_many_choices_that_trying_them_takes_forever_are_refused(regex: str) -> None:
    assert "forever" in (regex_fault(regex) or "")
    policy = f"version: 1\ndefault: bp\nrules: [{{where: {{regex: '{regex}'}}, rule: fa}}]\n"
    with pytest.raises(PolicyError, match="forever"):
        Policy.from_yaml(policy)


@pytest.mark.parametrize(
    "regex",
    [
        r"backbone\.(layer1|layer2|layer3)\.\d+\.(conv1|conv2)?",
        "|".join(f"conv{k}" for k in range(60)),
        r"\w+\.\d+\.\w+\.\d+\.conv\d*",
        r"(?:encoder|decoder)\.layers\.[0-9]+\.(?:self_attn|mlp)\..*",
    ],
)
def test_regular_expressions_as_people_write_them_are_taken(regex: str) -> None:
    assert regex_fault(regex) is None


@pytest.mark.parametrize("segments", [["a"] * 20_000, ["**"] * 20_000, ["**", "backbone"] * 10_000])
def test_long_globs_are_looked_at_as_deep_as_the_model_is(
    segments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    names_below = fxbio.globs._names_below

    def counted(parent: str, modules: list[str]) -> list[str]:
        looked_at.append(parent)
        return names_below(parent, modules)

    monkeypatch.setattr(fxbio.globs, "_names_below", counted)
    suggest_paths(".".join([*segments, "x"]), PATHS)
    assert len(looked_at) < 20
