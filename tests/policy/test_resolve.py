from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from torch import Tensor

from fxbio.errors import PolicyError, UnreachableWeightError
from fxbio.policy import Policy, resolve
from fxbio.rules import FeedbackRule, rule
from fxbio.rules import learning_rule as rule_registry
from fxbio.site import OpKind
from tests.policy.toy import LSTM, FakeGraph, make_graph, make_site, plan, policy, rules

HEAD = "version: 1\ndefault: bp\nrules:\n"


@pytest.fixture
def chain() -> FakeGraph:
    return make_graph([make_site("a"), make_site("b"), make_site("c")])


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        # each pair in both orders: the later one wins, whatever its kind
        ("{where: '**', rule: fa}, {where: b, rule: usf}", "fa usf fa"),
        ("{where: b, rule: usf, allow_unmatched: true}, {where: '**', rule: fa}", "fa fa fa"),
        ("{where: {regex: '[bc]'}, rule: fa}, {where: c, rule: stop}", "bp fa stop"),
        ("{where: c, rule: stop}, {where: {regex: '[bc]'}, rule: fa}", "bp fa fa"),
        ("{where: {last: 2}, rule: fa}, {where: {first: 2}, rule: usf}", "usf usf fa"),
        ("{where: {first: 2}, rule: usf}, {where: {last: 2}, rule: fa}", "usf fa fa"),
        ("{where: {index: 1}, rule: fa}, {where: {op: conv}, rule: frozen}",
         "frozen frozen frozen"),
        ("{where: {op: conv}, rule: frozen}, {where: {index: 1}, rule: bp}", "frozen bp frozen"),
        ("{where: a, rule: fa}, {where: a, rule: bp}", "bp bp bp"),
    ],
)  # fmt: skip
def test_the_last_match_wins(entries: str, expected: str, chain: FakeGraph) -> None:
    found = rules(plan(f"version: 1\ndefault: bp\nrules: [{entries}]", chain))
    assert list(found.values()) == expected.split()


def test_an_entry_replaces_earlier_ones_whole(chain: FakeGraph) -> None:
    made = plan(
        HEAD + "  - {where: '**', rule: fa, with: {magnitude: 3, distribution: normal}}\n"
        "  - {where: b, rule: fa, with: {magnitude: 2}}",
        chain,
    )
    assert made.assignments[1].options == {"magnitude": 2, "distribution": "auto"}


def test_decisions_name_line_entry_and_what_they_override(
    chain: FakeGraph, policy_file: Path
) -> None:
    policy_file.write_text(
        HEAD + "  - {name: all, where: '**', rule: fa}\n  - {where: b, rule: usf}\n"
    )
    a, b, _ = resolve(Policy.from_yaml(policy_file), chain).assignments
    assert str(a.decided_by) == "p.yaml:4 all"
    assert str(b.decided_by) == "p.yaml:5 entry 2"
    assert [str(d) for d in b.overrides] == ["p.yaml:4 all"]


def test_the_default_decides_the_rest(chain: FakeGraph, policy_file: Path) -> None:
    policy_file.write_text("version: 1\ndefault: fa\n")
    made = resolve(Policy.from_yaml(policy_file), chain)
    assert set(rules(made).values()) == {"fa"}
    assert str(made.assignments[0].decided_by) == "p.yaml:2 default"
    assert made.assignments[0].overrides == ()


@pytest.mark.parametrize(
    ("text", "norm"),
    [
        ("version: 1\ndefault: fa", "bp"),
        ("version: 1\ndefault: bp\nrules: [{where: '**', rule: fa}]", "bp"),
        ("version: 1\ndefault: bp\nrules: [{where: {op: norm}, rule: fa}]", "fa"),
        ("version: 1\ndefault: bp\nrules: [{where: {any: [{op: norm}, {op: conv}]}, rule: fa}]",
         "fa"),
        ("version: 1\ndefault: bp\nrules: [{where: {not: {op: norm}}, rule: fa}]", "bp"),
    ],
)  # fmt: skip
def test_norms_are_touched_only_by_name(text: str, norm: str, graph: FakeGraph) -> None:
    assert rules(plan(text, graph))["backbone.bn1"] == norm


@pytest.mark.parametrize(
    ("entry", "place", "parts"),
    [
        ("{where: bakbone.**, rule: fa}", "4:13",
         ["'bakbone.**' matches no site of toy", "did you mean 'backbone'?", "fxbio inspect"]),
        ("{where: {module: [backbone.**, haed.*]}, rule: fa}", "4:36",
         ["'haed.*' matches no site", "did you mean 'head'?"]),
        ("{where: {op: conv, not: {module: head}}, rule: fa}", "4:38", ["write 'head.**'"]),
        ("{where: {regex: x.*}, rule: fa}", "4:21", ["'x.*' matches no site"]),
        ("{where: {between: [head.fc, nowhere]}, rule: fa}", "4:33", ["'nowhere' matches no"]),
        ("{where: {between: [head.fc, backbone.conv1]}, rule: fa}", "4:13",
         ["no dataflow path leads from 'head.fc' to 'backbone.conv1'"]),
        ("{name: x, where: {module: head.fc, op: conv}, rule: fa}", "4:22",
         ["entry 'x' matches no site", "ops of the sites of that name: linear",
          "allow_unmatched: true"]),
        ("{where: {op: conv3d}, rule: fa}", "4:13",
         ["entry 1 matches no site", "ops of the model: conv2d, norm, linear"]),
        ("{where: {type: Conv1d}, rule: fa}", "4:13",
         ["types in the model: Conv2d, BatchNorm2d, Linear"]),
        ("{where: {module: backbone.bn1}, rule: fa}", "4:13", ["select them with op: norm"]),
        ("{where: {depth: [7, 9]}, rule: fa}", "4:13", ["count from 0 to 6"]),
        ("{where: '**::conv', rule: fa, expect: {count: 9}}", "4:43",
         ["entry 1 expects 9 weights and matches 5 (used at 6 sites)",
          "backbone.conv1.weight, backbone.layer1.0.conv1.weight"]),
        ("{where: '**::linear', rule: fa, expect: {min: 3}}", "4:45", ["at least 3", "matches 2"]),
        ("{where: '**::linear', rule: fa, expect: {max: 1}}", "4:45", ["at most 1", "matches 2"]),
        ("{where: '**::linear', rule: fa, expect: {min: 3, max: 4}}", "4:45", ["3 to 4 weights"]),
    ],
)  # fmt: skip
def test_entries_that_do_not_fit_the_model(
    entry: str, place: str, parts: list[str], graph: FakeGraph, policy_file: Path
) -> None:
    policy_file.write_text(HEAD + f"  - {entry}\n")
    with pytest.raises(PolicyError) as caught:
        resolve(Policy.from_yaml(policy_file), graph)
    message = str(caught.value)
    assert f"--> p.yaml:{place}\n" in message
    assert "^" in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "more",
    ["expect: {count: 2}", "expect: {min: 1, max: 2}", "expect: {min: 2}", "expect: {max: 2}"],
)
def test_expectations_that_hold(more: str, graph: FakeGraph) -> None:
    made = plan(HEAD + f"  - {{where: '**::linear', rule: fa, {more}}}", graph)
    assert list(rules(made).values()).count("fa") == 2


def test_allow_unmatched_lets_an_entry_match_nothing(graph: FakeGraph) -> None:
    made = plan(
        HEAD + "  - {where: x.**, rule: fa, allow_unmatched: true, expect: {count: 3}}", graph
    )
    assert set(rules(made).values()) == {"bp"}
    assert made.warnings == ()


def test_an_entry_without_effect_is_a_warning(chain: FakeGraph, policy_file: Path) -> None:
    policy_file.write_text(
        HEAD + "  - {name: early, where: b, rule: fa}\n  - {name: late, where: '**', rule: usf}\n"
    )
    made = resolve(Policy.from_yaml(policy_file), chain)
    assert made.warnings == ("p.yaml:4 early has no effect: overridden by p.yaml:5 late",)


# ---------------------------------------------------------------- unreachable and unsupported

TORCHSCRIPT = "it is inside a TorchScript module"


@pytest.fixture
def partly() -> FakeGraph:
    return make_graph([make_site("a"), make_site("b", unreachable=TORCHSCRIPT)], (LSTM,))


def test_an_entry_that_asks_for_an_unreachable_site(partly: FakeGraph, policy_file: Path) -> None:
    policy_file.write_text(HEAD + "  - {name: x, where: '**', rule: fa}\n")
    with pytest.raises(UnreachableWeightError) as caught:
        resolve(Policy.from_yaml(policy_file), partly)
    message = str(caught.value)
    assert "no rule can be installed at 'b', but x asks for fa" in message
    assert "p.yaml:4:5" in message
    assert TORCHSCRIPT in message
    assert "on_unsupported: bp" in message


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\ndefault: fa",
        HEAD + "  - {where: '**', rule: fa, on_unsupported: bp}",
    ],
)
def test_bp_stays_with_its_reason_where_that_is_permitted(text: str, partly: FakeGraph) -> None:
    a, b = plan(text, partly).assignments
    assert (a.rule, a.fallback) == ("fa", None)
    assert (b.rule, b.options, b.fallback) == ("bp", {}, f"not fa: {TORCHSCRIPT}")


@pytest.mark.parametrize(
    "text",
    [
        "version: 1\ndefault: bp",
        HEAD + "  - {where: b, rule: bp}",
        HEAD + "  - {where: '**', rule: fa}\n  - {where: b, rule: bp}",
        HEAD + "  - {where: encoder.lstm, rule: bp}",
        HEAD + "  - {where: encoder.**, rule: fa, on_unsupported: bp}",
    ],
)
def test_bp_on_unreachable_weights_is_no_fallback(text: str, partly: FakeGraph) -> None:
    assert plan(text, partly).assignments[1].fallback is None


@pytest.mark.parametrize("glob", ["encoder.lstm", "encoder.**", "'**.lstm'"])
def test_an_entry_that_asks_for_an_opaque_part(
    glob: str, partly: FakeGraph, policy_file: Path
) -> None:
    policy_file.write_text(HEAD + f"  - {{where: {glob}, rule: fa}}\n")
    with pytest.raises(UnreachableWeightError) as caught:
        resolve(Policy.from_yaml(policy_file), partly)
    message = str(caught.value)
    assert "in 'encoder.lstm'" in message
    assert "nn.LSTM runs a fused kernel (net.py:12)" in message
    assert "p.yaml:4:13" in message


@pytest.fixture
def linear_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_registry, "_RULES", dict(rule_registry._RULES))

    @rule("linear-only")
    @dataclass(frozen=True)
    class LinearOnly(FeedbackRule):
        ops: ClassVar[tuple[OpKind, ...]] = ("linear",)

        def feedback(self, weight: Tensor, drawn: Tensor | None) -> Tensor:
            return weight


@pytest.mark.usefixtures("linear_only")
def test_a_rule_that_cannot_serve_a_site(graph: FakeGraph, policy_file: Path) -> None:
    entry = "  - {{where: 'backbone.**', rule: linear-only{}}}\n"
    policy_file.write_text(HEAD + entry.format(""))
    with pytest.raises(PolicyError) as caught:
        resolve(Policy.from_yaml(policy_file), graph)
    assert "rule 'linear-only' cannot serve 'backbone.conv1'" in str(caught.value)
    assert "serves linear, not conv2d" in str(caught.value)
    assert "p.yaml:4:5" in str(caught.value)

    made = plan(HEAD + entry.format(", on_unsupported: bp"), graph)
    assert rules(made)["backbone.layer2.0.attn"] == "linear-only"
    assert made.assignments[0].rule == "bp"
    assert "serves linear" in (made.assignments[0].fallback or "")


@pytest.mark.usefixtures("linear_only")
def test_a_default_that_cannot_serve_a_site_says_what_to_write(chain: FakeGraph) -> None:
    with pytest.raises(PolicyError, match=r"\{where: \{op: conv2d\}, rule: bp\}"):
        resolve(Policy.uniform("linear-only"), chain)


# ---------------------------------------------------------------- shared weights


def tied() -> FakeGraph:
    return make_graph(
        [make_site("embed"), make_site("mid"), make_site("out", weight="embed.weight")]
    )


def test_two_rules_for_one_weight(policy_file: Path) -> None:
    policy_file.write_text(
        HEAD + "  - {name: x, where: embed, rule: fa}\n  - {name: y, where: out, rule: usf}\n"
    )
    with pytest.raises(PolicyError) as caught:
        resolve(Policy.from_yaml(policy_file), tied())
    message = str(caught.value)
    assert "two rules for the one weight 'embed.weight'" in message
    assert "'embed' gets fa from p.yaml:4 x" in message
    assert "'out#1' gets usf from p.yaml:5 y" in message
    assert "--> p.yaml:5:5" in message


@pytest.mark.parametrize(
    "entries",
    [
        "{where: out, rule: fa}",
        "{where: '**', rule: fa}, {where: out, rule: fa, with: {magnitude: 2}}",
    ],
)
def test_default_and_options_can_conflict_too(entries: str) -> None:
    with pytest.raises(PolicyError, match=r"embed\.weight"):
        plan(f"version: 1\ndefault: bp\nrules: [{entries}]", tied())


@pytest.mark.parametrize(
    "entries",
    [
        "{where: '**', rule: fa}",
        "{where: embed, rule: fa}, {where: out, rule: feedback-alignment}",
        "{where: embed, rule: fa}, {where: out, rule: fa, with: {magnitude: xiao}}",
        "{where: {first: true}, rule: fa}",
    ],
)
def test_one_rule_from_several_entries_is_no_conflict(entries: str) -> None:
    made = rules(plan(f"version: 1\ndefault: bp\nrules: [{entries}]", tied()))
    assert made["embed"] == made["out#1"] == "fa"


def test_resolving_is_pure(graph: FakeGraph) -> None:
    given = policy(HEAD + "  - {where: 'head.**', rule: fa}")
    assert resolve(given, graph) == resolve(given, graph)


def test_a_plan_carries_the_settings_of_its_policy(chain: FakeGraph) -> None:
    text = "version: 1\ndefault: fa\nseed: 5\npersist_feedback: true\nallow_backprop: [x.**]\n"
    made = plan(text, chain)
    assert (made.seed, made.persist_feedback, made.allow_backprop) == (5, True, ("x.**",))
    assert (made.policy_text, made.policy_source) == (text, None)
    assert (made.model, made.model_digest) == ("toy", "d1")
    assert made.policy_digest == policy(text).digest
