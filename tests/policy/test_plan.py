from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fxbio.errors import RecordError
from fxbio.policy import Plan, Policy, resolve
from fxbio.site import Origin
from tests.policy.toy import LSTM, FakeGraph, make_graph, make_site, plan

MIXED = """\
version: 1
default: {rule: fa, with: {magnitude: 0.1}}
seed: 3
rules:
  - {name: head, where: "head.**", rule: bp}
  - {where: {op: norm}, rule: usf, with: {magnitude: 2}}
"""


@pytest.fixture
def mixed(graph: FakeGraph) -> Plan:
    placed = [replace(site, origin=Origin("net.py", 3)) for site in graph.sites]
    return plan(MIXED, make_graph(placed, (LSTM,)))


def test_json_round_trip_is_exact(mixed: Plan) -> None:
    again = Plan.from_json(mixed.to_json())
    assert again == mixed
    assert again.digest == mixed.digest
    assert again.to_json() == mixed.to_json()


def test_json_is_the_fields(mixed: Plan) -> None:
    data = json.loads(mixed.to_json())
    assert data["version"] == 1
    assert data["assignments"][0]["rule"] == "fa"
    assert data["assignments"][0]["site"]["shape"] == [64, 3, 7, 7]
    assert data["unreachable"][0]["reason"] == "nn.LSTM runs a fused kernel"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(version=2), "version 2 of the plan format"),
        (lambda data: data.pop("version"), "version None"),
        (lambda data: data.pop("assignments"), "the plan is damaged"),
        (lambda data: data.update(extra=1), "the plan is damaged"),
        (lambda data: data["assignments"][0]["site"].pop("op"), "the plan is damaged"),
        (lambda data: data["assignments"].append(data["assignments"][1]), "is in it twice"),
    ],
)
def test_damaged_plans_are_refused(change, message: str, mixed: Plan) -> None:  # type: ignore[no-untyped-def]
    data = json.loads(mixed.to_json())
    change(data)
    with pytest.raises(RecordError, match=message):
        Plan.from_json(json.dumps(data))


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(RecordError, match="not JSON"):
        Plan.from_json("bp")


def test_rewritten_leaves_out_backprop(mixed: Plan) -> None:
    assert [a.site.name for a in mixed.rewritten()] == [
        "backbone.conv1",
        "backbone.bn1",
        "backbone.layer1.0.conv1",
        "backbone.layer1.0.conv2",
        "backbone.layer2.0.conv1",
        "backbone.layer2.0.attn",
    ]


def test_rules_come_back_with_their_options(mixed: Plan) -> None:
    assert str(mixed.assignments[0].make_rule()) == "fa{magnitude=0.1}"


def test_totals_count_each_weight_once(mixed: Plan) -> None:
    fa, usf, bp = mixed.totals()
    # 64·3·7·7 + 3 · 8·4·3·3 + 8·8; one norm; 16·8·3·3 used twice + 10·16
    assert (fa.rule, fa.sites, fa.weights, fa.parameters) == ("fa{magnitude=0.1}", 5, 5, 10336)
    assert (usf.rule, usf.sites, usf.weights, usf.parameters) == ("usf{magnitude=2}", 1, 1, 64)
    assert (bp.rule, bp.sites, bp.weights, bp.parameters) == ("bp", 3, 2, 1312)
    assert fa.share == pytest.approx(10336 / 11712)
    assert fa.share + usf.share + bp.share == pytest.approx(1)


def test_totals_count_a_parameter_behind_several_weights_once() -> None:
    chunks = [
        replace(make_site(f"qkv{i}", "linear", (4, 4)), sources=("qkv",), parameters=48)
        for i in range(3)
    ]
    (total,) = resolve(Policy.uniform("fa"), make_graph(chunks)).totals()
    assert (total.weights, total.parameters, total.share) == (3, 48, 1.0)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("# other words\n" + MIXED.replace("name: head", "name: kopf"), True),
        (MIXED.replace("seed: 3", "seed: 4"), False),
        (MIXED.replace("magnitude: 2", "magnitude: 3"), False),
        (MIXED.replace("rule: bp", "rule: stop"), False),
        (MIXED + "persist_feedback: true", False),
    ],
)
def test_digest_is_of_what_will_be_done(text: str, same: bool, graph: FakeGraph) -> None:
    assert (plan(text, graph).digest == plan(MIXED, graph).digest) is same


def test_digest_depends_on_the_model(graph: FakeGraph) -> None:
    other = replace(graph, digest="d2")
    assert plan(MIXED, graph).digest != plan(MIXED, other).digest


def test_equal_plans_have_no_diff(mixed: Plan) -> None:
    diff = mixed.diff(Plan.from_json(mixed.to_json()))
    assert not diff
    assert str(diff) == "the plans do the same"


def test_diff_lists_added_removed_changed_and_settings() -> None:
    old = plan("version: 1\ndefault: fa", make_graph([make_site("a"), make_site("b")]))
    new = plan(
        "version: 1\ndefault: fa\nseed: 1\nrules: [{name: n, where: b, rule: usf}]",
        make_graph([make_site("b"), make_site("c")]),
    )
    diff = old.diff(new)
    assert diff
    assert str(diff).splitlines() == [
        "! seed: 0 → 1",
        "- a: fa",
        "+ c: fa",
        "~ b: fa → usf  (<policy>:4 n)",
    ]


def test_diff_sees_options(graph: FakeGraph) -> None:
    diff = plan(MIXED, graph).diff(plan(MIXED.replace("magnitude: 2", "magnitude: 3"), graph))
    assert [(a.site.name, a.options, b.options) for a, b in diff.changed] == [
        ("backbone.bn1", {"magnitude": 2}, {"magnitude": 3})
    ]
