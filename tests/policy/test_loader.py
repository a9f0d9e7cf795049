from __future__ import annotations

from pathlib import Path

import pytest

from fxbio.errors import PolicyError
from fxbio.policy import Policy
from tests.policy.toy import policy

FULL = """\
# Everything that the language has.
version: 1
default: {rule: feedback-alignment, with: {magnitude: 1e-3}}
seed: 7
persist_feedback: true
allow_backprop: ["head.custom.**"]
rules:
  - name: backbone
    where: {module: "backbone.**", op: [conv, linear]}
    rule: usf
    with: {magnitude: matched}
    expect: {count: 53}
  - where: {last: true}
    rule: bp
  - where: {any: [{module: a.*}, {not: {op: conv}}], index: 1:5}
    rule: fa
    allow_unmatched: true
    on_unsupported: bp
  - {where: "head.**::conv2d", rule: stop, expect: {min: 1, max: 3}}
  - {where: {depth: [null, 0.5]}, rule: frozen}
  - {where: {between: [a, "b.**"], regex: x, type: Conv2d, index: 0}, rule: brsf}
"""


def test_the_whole_language_is_read() -> None:
    read = policy(FULL)
    assert (read.version, read.seed, read.persist_feedback) == (1, 7, True)
    assert read.allow_backprop == ("head.custom.**",)
    assert (read.default.name, read.default.options) == ("fa", {"magnitude": 0.001})
    first, last, odd, short, *_ = read.entries
    assert (first.name, first.rule.name, first.rule.options) == (
        "backbone", "usf", {"magnitude": "matched"}
    )  # fmt: skip
    assert first.where.op == ("conv", "linear")
    assert first.expect is not None
    assert first.expect.count == 53
    assert (last.label, last.where.last) == ("entry 2", 1)
    assert (odd.allow_unmatched, odd.on_unsupported, str(odd.where.index)) == (True, "bp", "1:5")
    assert (short.where.op, [str(p) for p in short.where.module]) == (("conv2d",), ["head.**"])


def test_entries_know_their_lines() -> None:
    lines = [entry.location.line for entry in policy(FULL).entries if entry.location]
    assert lines == [8, 13, 15, 19, 20, 21]


def test_yaml_round_trip_keeps_everything_but_comments() -> None:
    read = policy(FULL)
    again = Policy.from_yaml(read.to_yaml())
    assert again == read
    assert again.digest == read.digest


def test_digest_ignores_comments_layout_aliases_and_spelled_out_defaults() -> None:
    short = policy("version: 1\ndefault: fa\n")
    long = policy(
        "# x\ndefault:\n  rule: feedback-alignment\n  with: {magnitude: xiao}\nversion: 1"
    )
    assert short.digest == long.digest


@pytest.mark.parametrize(
    "other", ["default: fa\nseed: 1", "default: usf", "default: {rule: fa, with: {magnitude: 2}}"]
)
def test_digest_depends_on_content(other: str) -> None:
    assert policy(f"version: 1\n{other}").digest != policy("version: 1\ndefault: fa").digest


def test_uniform_and_append_build_what_yaml_would() -> None:
    built = Policy.uniform("fa", magnitude=2).append(
        where={"last": True}, rule="usf", options={"magnitude": "matched"}, name="head",
        expect={"count": 1}, on_unsupported="bp",
    )  # fmt: skip
    read = policy("""\
        version: 1
        default: {rule: fa, with: {magnitude: 2}}
        rules:
          - name: head
            where: {last: true}
            rule: usf
            with: {magnitude: matched}
            expect: {count: 1}
            on_unsupported: bp
        """)
    assert built == read
    assert Policy.from_yaml(built.text) == read


def test_append_leaves_the_original_alone() -> None:
    before = Policy.uniform("bp")
    before.append(where="a.**", rule="fa")
    assert before.entries == ()


def test_programmatic_mistakes_are_policy_errors() -> None:
    with pytest.raises(PolicyError, match="unknown rule 'fq'"):
        Policy.uniform("fq")
    with pytest.raises(PolicyError, match="unknown key 'modul' in 'where'"):
        Policy.uniform("bp").append(where={"modul": "a"}, rule="fa")
    with pytest.raises(PolicyError, match="YAML cannot hold a set"):
        Policy.uniform("bp").append(where={"module": {"a"}}, rule="fa")


def test_aliases_and_anchors_are_read() -> None:
    read = policy("""\
        version: 1
        default: bp
        rules:
          - {where: a, rule: usf, with: &options {magnitude: 2}}
          - {where: b, rule: fa, with: *options}
        """)
    assert [entry.rule.options for entry in read.entries] == [{"magnitude": 2}] * 2


@pytest.mark.parametrize(
    ("written", "value"), [("1e-3", 0.001), ("2", 2), (".5", 0.5), ("+1.5E2", 150.0)]
)
def test_numbers_are_read_as_people_write_them(written: str, value: float) -> None:
    read = policy(f"version: 1\ndefault: {{rule: fa, with: {{magnitude: {written}}}}}")
    assert read.default.options == {"magnitude": value}


HEAD = "version: 1\ndefault: bp\nrules:\n"
ENTRY = HEAD + "  - {{where: {}, rule: fa}}\n"


@pytest.mark.parametrize(
    ("text", "line", "column", "underlined", "parts"),
    [
        # not YAML
        ("version: 1\ndefault: [bp\n", 3, 1, "", ["not YAML"]),
        ("version: 1\ndefault: *x\n", 2, 10, "*", ["not YAML", "undefined alias"]),
        ("version: 1\nversion: 1\ndefault: bp", 2, 1, "version", ["twice", "p.yaml:1:1"]),
        ("version: 1\ndefault: !!python/name:os.system x", 2, 10, "!!python/name:os.system x",
         ["unknown tag"]),
        ("version: !!int x\ndefault: bp", 1, 10, "!!int x", ["'x' is not a whole number"]),
        ("version: 1\n2: bp", 2, 1, "2", ["a key must be a word"]),
        ("version: 1\ndefault: bp\nrules: &a [*a]", 3, 8, "&a [*a]", ["contains itself"]),
        # the policy itself
        ("- bp\n", 1, 1, "- bp", ["the policy must be a mapping, not a list"]),
        ("version: 1\n", 1, 1, "version: 1", ["the policy has no 'default'", "default: bp"]),
        ("default: bp\n", 1, 1, "default: bp", ["has no 'version'", "version: 1"]),
        ("version: 2\ndefault: bp", 1, 10, "2", ["version 2", "reads version 1"]),
        ("version: 1\ndefualt: bp", 2, 1, "defualt",
         ["unknown key 'defualt' in the policy", "did you mean 'default'?", "allowed: version"]),
        ("version: 1\ndefault: null", 2, 10, "null",
         ["'default' must be a text or a mapping, not nothing"]),
        ("version: 1\ndefault: bp\nseed: -1", 3, 7, "-1", ["seed must be at least 0, not -1"]),
        ("version: 1\ndefault: bp\nseed: 1.5", 3, 7, "1.5", ["seed must be a whole number"]),
        ("version: 1\ndefault: bp\npersist_feedback: yes", 3, 19, "yes",
         ["must be true or false, not the text 'yes'"]),
        ("version: 1\ndefault: bp\nrules: {}", 3, 8, "{}", ["rules must be a list"]),
        ("version: 1\ndefault: bp\nallow_backprop: a..b", 3, 17, "a..b", ["malformed glob"]),
        # rules and options
        ("version: 1\ndefault: usff", 2, 10, "usff",
         ["unknown rule 'usff'", "did you mean 'usf'", "list the rules with: fxbio rules"]),
        ("version: 1\ndefault: {rule: fa, with: {magnitud: 1}}", 2, 28, "magnitud",
         ["no option 'magnitud'", "did you mean 'magnitude'?", "fxbio rules fa"]),
        ("version: 1\ndefault: {rule: fa, with: {magnitude: xia}}", 2, 39, "xia",
         ["unknown magnitude 'xia'", "did you mean 'xiao'?"]),
        ("version: 1\ndefault: {rule: brsf, with: {magnitude: 1, redraw_every: 0}}", 2, 58, "0",
         ["redraw_every must be"]),
        ("version: 1\ndefault: {rule: fa, with: [1]}", 2, 27, "[1]",
         ["with must be a mapping, not a list"]),
        ("version: 1\ndefault: {with: {magnitude: 1}}", 2, 10, "{with: {magnitude: 1}}",
         ["'default' has no 'rule'", "Name of the rule."]),
        # entries
        (HEAD + "  - {where: a}", 4, 5, "{where: a}",
         ["entry 1 of 'rules' has no 'rule'", "Name of the rule."]),
        (HEAD + "  - where: a\n    rulle: fa", 5, 5, "rulle", ["did you mean 'rule'?"]),
        (HEAD + "  - {module: a, rule: fa}", 4, 6, "module", ["belongs under 'where'"]),
        (HEAD + "  - {where: a, rule: fa, magnitude: 1}", 4, 26, "magnitude",
         ["options go under 'with'"]),
        (HEAD + "  - {where: a, rule: fa, on_unsupported: skip}", 4, 42, "skip",
         ["error or bp, not 'skip'"]),
        (HEAD + "  - {where: a, rule: fa, expect: {count: 1, min: 1}}", 4, 34,
         "{count: 1, min: 1}", ["count stands alone"]),
        (HEAD + "  - {where: a, rule: fa, expect: {min: 3, max: 1}}", 4, 34,
         "{min: 3, max: 1}", ["min is above max"]),
        (HEAD + "  - {where: a, rule: fa, expect: {}}", 4, 34, "{}", ["it is empty"]),
        (HEAD + "  - {where: a, rule: fa, expect: {count: x}}", 4, 42, "x",
         ["count must be a whole number"]),
        # selectors
        (ENTRY.format("{modul: a}"), 4, 14, "modul",
         ["unknown key 'modul' in 'where'", "did you mean 'module'?"]),
        (ENTRY.format("{with: a}"), 4, 14, "with", ["belongs beside 'where'"]),
        (ENTRY.format("{}"), 4, 13, "{}", ["an empty 'where'"]),
        (ENTRY.format("[a]"), 4, 13, "[a]", ["'where' must be a text or a mapping, not a list"]),
        (ENTRY.format("{module: [a, 3]}"), 4, 26, "3", ["module must be a text, not 3"]),
        (ENTRY.format("{module: []}"), 4, 22, "[]", ["not an empty list"]),
        (ENTRY.format("{module: a**}"), 4, 22, "a**", ["malformed glob", "alone between dots"]),
        (ENTRY.format('{module: "a::conv"}'), 4, 22, '"a::conv"', ["short form"]),
        (ENTRY.format('"a.**::con"'), 4, 13, '"a.**::con"',
         ["unknown op 'con'", "did you mean 'conv'", "fxbio inspect MODEL"]),
        (ENTRY.format("{op: [conv, dense]}"), 4, 25, "dense", ["unknown op 'dense'", "linear"]),
        (ENTRY.format("{regex: '('}"), 4, 21, "'('", ["malformed regular expression"]),
        (ENTRY.format("{index: 1.5}"), 4, 21, "1.5", ["index must be a whole number"]),
        (ENTRY.format("{index: a}"), 4, 21, "a", ["not a slice", '"2:5"']),
        (ENTRY.format("{index: true}"), 4, 21, "true", ["whole number, not true"]),
        (ENTRY.format("{first: 0}"), 4, 21, "0", ["first must be at least 1"]),
        (ENTRY.format("{last: false}"), 4, 20, "false", ["last must be a whole number"]),
        (ENTRY.format("{first: 1, last: 1}"), 4, 24, "last", ["'first' and 'last'", "any:"]),
        (ENTRY.format("{depth: [2, 1]}"), 4, 21, "[2, 1]", ["the range is empty"]),
        (ENTRY.format("{depth: [0.5, 3]}"), 4, 21, "[0.5, 3]", ["between 0.0 and 1.0"]),
        (ENTRY.format("{depth: [-1, 3]}"), 4, 21, "[-1, 3]", ["count from 0"]),
        (ENTRY.format("{depth: [~, ~]}"), 4, 21, "[~, ~]", ["both ends are open"]),
        (ENTRY.format("{depth: [1]}"), 4, 21, "[1]", ["two ends, not 1"]),
        (ENTRY.format("{between: [a]}"), 4, 23, "[a]", ["two ends, not 1"]),
        (ENTRY.format("{any: {first: 1}}"), 4, 19, "{first: 1}",
         ["any must be a text or a list, not a mapping"]),
        (ENTRY.format("{not: {op: x}}"), 4, 24, "x", ["unknown op 'x'"]),
    ],
)  # fmt: skip
def test_mistakes_are_shown_where_they_stand(
    text: str, line: int, column: int, underlined: str, parts: list[str], policy_file: Path
) -> None:
    policy_file.write_text(text)
    with pytest.raises(PolicyError) as caught:
        Policy.from_yaml(policy_file)
    message = str(caught.value)
    caret = " " * (column - 1) + "^" * max(1, len(underlined))
    assert f"--> p.yaml:{line}:{column}\n" in message + "\n"
    if underlined:
        assert f"{line} | {text.splitlines()[line - 1]}\n  | {caret}" in message
    for part in parts:
        assert part in message


def test_a_text_that_is_no_policy_at_all() -> None:
    with pytest.raises(PolicyError, match="the policy must be a mapping, not nothing"):
        Policy.from_yaml("")


def test_a_missing_file_offers_its_neighbours(policy_file: Path) -> None:
    policy_file.with_name("sign.yaml").write_text("version: 1")
    with pytest.raises(PolicyError, match=r"no policy file 'sing.yaml'\n.*did you mean 'sign.yaml"):
        Policy.from_yaml("sing.yaml")


def test_a_file_that_is_not_text(policy_file: Path) -> None:
    policy_file.write_bytes(b"version: \xff\n")
    with pytest.raises(PolicyError, match="cannot be read"):
        Policy.from_yaml(policy_file)


def test_source_and_text_are_kept(policy_file: Path) -> None:
    policy_file.write_text(FULL)
    read = Policy.from_yaml("p.yaml")
    assert (read.source, read.text) == ("p.yaml", FULL)
