"""Nodes, edges, carriers and colours of nets whose pictures are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fxbio
from fxbio.viz import Picture, draw
from tests.viz.nets import Pyramid, Residual, Shared, chain, edges, picture, titles


def carriers(drawn: Picture) -> dict[str, list[tuple[str, str]]]:
    return {
        node.title: [(passage.rule, passage.carrier) for passage in node.passages]
        for node in drawn.nodes
        if node.kind == "box"
    }


def test_a_chain_and_its_mirror() -> None:
    drawn = picture(chain(2), "fa")
    assert [(n.kind, n.title, n.subtitle) for n in drawn.nodes] == [
        ("input", "input", "2×6"),
        ("box", "0", "linear 6×6 · 36"),
        ("box", "2", "linear 6×6 · 36"),
        ("output", "output", "2×6"),
    ]
    assert edges(drawn, "forward") == [("input", "0"), ("0", "2"), ("2", "output")]
    assert edges(drawn, "feedback") == [("output", "2"), ("2", "0")]
    assert edges(drawn, "direct") == []
    assert [edge.carrier for edge in drawn.edges if edge.kind == "feedback"] == ["", "B drawn"]


@pytest.mark.parametrize(
    ("rule", "carrier", "transports"),
    [
        ("bp", "W", "weights"),
        ("frozen", "W", "weights"),
        ("usf", "sign W", "signs"),
        ("brsf", "sign W", "signs"),
        ("signed-init", "copy of W", "copies"),
        ("fa", "B drawn", "none"),
        ("kp", "B learned", "none"),
        ("sa", "B learned", "copies"),
        ("pfa", "B learned", "none"),
        ("stop", "nothing", "none"),
    ],
)
def test_what_carries_the_error_of_a_layer(rule: str, carrier: str, transports: str) -> None:
    last = picture(chain(2), rule).node("n2").passages
    assert [(p.rule, p.carrier, p.transports, p.reached) for p in last] == [
        (rule, carrier, transports, True)
    ]


def test_the_first_layer_sends_nothing() -> None:
    drawn = picture(chain(2), "bp")
    assert [drawn.node(id).passages[0].used for id in ("n1", "n2")] == [False, True]


def test_nothing_arrives_below_a_stop() -> None:
    drawn = picture(chain(3), "default: bp\nrules: [{where: {module: '2'}, rule: stop}]")
    assert edges(drawn, "feedback") == [("output", "4"), ("4", "2")]
    reached = [passage.reached for node in drawn.nodes for passage in node.passages]
    assert reached == [False, True, True]


def test_direct_feedback_comes_from_the_output() -> None:
    drawn = picture(chain(3), "dfa")
    assert carriers(drawn) == {
        "0": [("dfa", "B · output error")],
        "2": [("dfa", "B · output error")],
        "4": [("dfa", "error itself")],
    }
    assert edges(drawn, "feedback") == [("output", "4")]
    assert edges(drawn, "direct") == [("output", "0"), ("output", "2")]


def test_below_direct_feedback_backprop_goes_on() -> None:
    drawn = picture(chain(3), "default: bp\nrules: [{where: {module: '2'}, rule: dfa}]")
    assert edges(drawn, "direct") == [("output", "2")]
    assert edges(drawn, "feedback") == [("output", "4"), ("2", "0")]


def test_direct_feedback_that_goes_on_reads_the_weight() -> None:
    drawn = picture(chain(3), "default: fa\nrules: [{where: {module: '2'}, rule: dfa}]")
    passage = drawn.node("n2").passages[0]
    assert (passage.carrier, passage.transports) == ("B, then W", "weights")


def test_direct_feedback_behind_blocks_arrives_where_they_end() -> None:
    entry = (
        "where: {module: 'blocks.**', op: linear}, rule: dfa, with: {at: block, block: 'blocks.*'}"
    )
    policy = f"default: bp\nrules: [{{{entry}}}]"
    sites = picture(Residual(blocks=2), policy, "site")
    assert edges(sites, "direct") == [("output", "+"), ("output", "+")]
    inside = [("+", "blocks.1.down"), ("blocks.1.down", "blocks.1.up")]
    stem = [("+", "blocks.0.down"), ("+", "stem"), ("blocks.0.up", "stem")]
    assert set(inside + stem) < set(edges(sites, "feedback"))
    assert ("blocks.1.up", "+") not in edges(sites, "feedback")
    blocks = picture(Residual(blocks=2), policy)
    assert edges(blocks, "direct") == [("output", "blocks.0"), ("output", "blocks.1")]
    assert edges(blocks, "feedback") == [("output", "head"), ("blocks.0", "stem")]


def test_labels_are_sent_in_place_of_errors() -> None:
    assert carriers(picture(chain(2), "drtp"))["0"] == [("drtp", "B · labels")]


def test_direct_feedback_from_named_heads() -> None:
    entry = "where: {module: 'stages.**'}, rule: dfa, with: {source: 'heads.*'}"
    drawn = picture(Pyramid(), f"default: bp\nrules: [{{{entry}}}]")
    sources = {source for source, _ in edges(drawn, "direct")}
    assert sources == {"heads.classes", "heads.boxes"}


def test_local_classifiers_send_nothing_down() -> None:
    drawn = picture(chain(3), "dgl")
    assert carriers(drawn) == {
        "0": [("dgl", "local classifier")],
        "2": [("dgl", "local classifier")],
        "4": [("dgl", "error itself")],
    }
    assert edges(drawn, "feedback") == [("output", "4")]
    assert edges(drawn, "direct") == []


def test_targets_go_through_inverses() -> None:
    drawn = picture(chain(3), "dtp")
    assert [c for ((_, c),) in carriers(drawn).values()] == ["inverse g", "inverse g", "W"]
    assert edges(drawn, "feedback") == [("output", "4"), ("4", "2"), ("2", "0")]


def test_blocks_that_repeat_are_counted() -> None:
    drawn = picture(Residual(), "usf")
    blocks = next(node for node in drawn.nodes if node.repeat > 1)
    assert (blocks.title, blocks.repeat) == ("blocks.{0…3}", 4)
    assert blocks.subtitle == "Block · 2 weights · 72"
    assert edges(drawn, "forward") == [
        ("input", "stem"),
        ("stem", "blocks.{0…3}"),
        ("blocks.{0…3}", "head"),
        ("head", "output"),
    ]


def test_a_rule_of_its_own_takes_a_block_out_of_the_count() -> None:
    drawn = picture(Residual(), "default: bp\nrules: [{where: {module: 'blocks.2.**'}, rule: fa}]")
    assert [node.title for node in drawn.nodes if node.kind == "box"] == [
        "stem",
        "blocks.0",
        "blocks.1",
        "blocks.2",
        "blocks.3",
        "head",
    ]


def test_several_rules_in_one_block() -> None:
    rules = "default: usf\nrules: [{where: {module: 'blocks.*.down'}, rule: fa}]"
    assert carriers(picture(Residual(), rules))["blocks.{0…3}"] == [
        ("usf", "sign W"),
        ("fa", "B drawn"),
    ]


def test_residuals_of_sites_are_joins() -> None:
    drawn = picture(Residual(blocks=1), "bp", "site")
    assert edges(drawn, "forward") == [
        ("input", "stem"),
        ("stem", "blocks.0.up"),
        ("stem", "+"),
        ("blocks.0.up", "blocks.0.down"),
        ("blocks.0.down", "+"),
        ("+", "head"),
        ("head", "output"),
    ]
    backwards = {(target, source) for source, target in edges(drawn, "feedback")}
    assert backwards == set(edges(drawn, "forward")) - {("input", "stem")}


def test_a_residual_of_the_parent_stays_a_chain() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.layers[0](x)
            for layer in self.layers[1:]:
                x = x + layer(x)
            return x

    assert [(n.title, n.repeat) for n in picture(Net(), "bp").nodes if n.kind == "box"] == [
        ("layers.0", 1),
        ("layers.{1…4}", 4),
    ]


@pytest.mark.parametrize("model", [Residual(), Shared(), Pyramid()], ids=lambda m: type(m).__name__)
def test_every_site_is_in_the_picture(model: nn.Module) -> None:
    sites = {site.name for site in fxbio.capture(model, torch.zeros(2, 6)).sites}
    for level in ("block", "site"):
        drawn = picture(model, "bp", "site" if level == "site" else "block")
        assert {detail.site for node in drawn.nodes for detail in node.details} == sites


def test_shared_and_idle_layers() -> None:
    drawn = picture(Shared(), "bp")
    assert [n.subtitle for n in drawn.nodes if n.kind == "box"] == [
        "linear 6×6 · 36",
        "linear 6×6 · 36 · 3 calls",
        "linear 6×6 · 36 · not called",
    ]
    assert edges(drawn, "forward") == [("input", "first"), ("first", "again"), ("again", "output")]


def test_what_the_dataflow_does_not_show_is_said() -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = torch.zeros(2, 6)
            out[:, :] = self.first(x)
            return self.second(out)

    drawn = picture(Writing(), "usf")
    lone = next(node for node in drawn.nodes if "not followed" in node.subtitle)
    assert lone.passages[0].reached
    assert lone.passages[0].carrier == "sign W"


def test_targets_are_no_inputs() -> None:
    class Lossy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return nn.functional.mse_loss(self.layer(x), target)

    drawn = draw(Lossy(), None, (torch.zeros(2, 6), torch.zeros(2, 3)))
    assert [node.subtitle for node in drawn.nodes] == ["2×6", "linear 3×6 · 18", "scalar"]


def test_long_chains_stay_small() -> None:
    drawn = picture(chain(60), "bp")
    assert list(titles(drawn).values()) == ["input", "0", "{2…118}", "output"]


def test_many_unlike_parts_are_drawn_one_level_up() -> None:
    unlike = nn.Sequential(*(nn.Linear(6 + i % 2, 7 - i % 2) for i in range(60)))
    model = nn.Sequential(unlike, nn.Linear(6, 3))
    drawn = picture(model, "bp")
    assert [n.title for n in drawn.nodes if n.kind == "box"] == ["0", "1"]


def test_colours_are_those_of_the_rules() -> None:
    rules = (
        "default: bp\nrules: [{where: {first: 1}, rule: fa}, "
        "{where: {last: 1}, rule: fa, with: {magnitude: 0.5}}]"
    )
    drawn = picture(chain(3), rules)
    assert [entry.rule for entry in drawn.legend] == ["fa", "bp", "fa{magnitude=0.5}"]
    colours = [entry.colour for entry in drawn.legend]
    assert colours[:2] == ["#e08a00", "#7d8590"]
    assert len(set(colours)) == 3
    assert drawn.colour("fa{magnitude=0.5}") == colours[2]


def test_details_say_shapes_and_what_decided() -> None:
    detail = picture(chain(1), "fa").node("n1").details[0]
    assert (detail.site, detail.op, detail.weight) == ("0", "linear", "6×6")
    assert (detail.input, detail.output, detail.parameters) == ("2×6", "2×6", 36)
    assert (detail.rule, detail.decided_by) == ("fa", "<policy>:2 default")


def test_without_a_policy_everything_learns_by_backprop() -> None:
    drawn = draw(chain(2), None, torch.zeros(2, 6))
    assert drawn.subtitle == "backprop everywhere · 2 sites"
    assert [entry.rule for entry in drawn.legend] == ["bp"]


def test_a_plan_is_drawn_as_its_policy() -> None:
    model, inputs = Residual(), torch.zeros(2, 6)
    policy = fxbio.Policy.uniform("usf")
    assert draw(model, fxbio.plan(model, policy, inputs), inputs) == draw(model, policy, inputs)


def test_the_model_is_left_alone() -> None:
    model = Residual()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert picture(model, "usf") == picture(model, "usf")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_transformed_model_is_drawn_as_it_was_planned() -> None:
    policy, inputs = fxbio.Policy.uniform("usf"), torch.zeros(2, 6)
    model = chain(2)
    expected = draw(model, policy, inputs)
    fxbio.transform(model, policy, inputs, inplace=True)
    assert draw(model) == expected
    assert fxbio.verify(model).ok
