"""Tables of rows as sites: what a plan says of them, and what each rule makes of their gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

import fxbio
from fxbio.analysis import audit
from fxbio.errors import PolicyError
from fxbio.rules import available_rules
from fxbio.site import OpKind
from fxbio.viz import draw

ROWS, LENGTH, WIDTH, CLASSES = 7, 3, 4, 5
IDS = torch.tensor([[3, 1, 3], [0, 6, 3]])
LABELS = torch.tensor([1, 4])


class Tokens(nn.Module):
    """A table, a nonlinearity, a layer: the smallest net that reads words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(ROWS, WIDTH)
        self.hidden = nn.Linear(LENGTH * WIDTH, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        h = torch.tanh(self.words(ids)).flatten(1)
        result: Tensor = self.head(torch.tanh(self.hidden(h)))
        return result


class Positions(Tokens):
    """Rows by position are looked up at constants, by a layer with a forward of its own."""

    class Learned(nn.Embedding):
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(torch.arange(ids.shape[1], device=ids.device))

    def __init__(self) -> None:
        super().__init__()
        self.places = self.Learned(LENGTH, WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        h = torch.tanh(self.words(ids) + self.places(ids)).flatten(1)
        result: Tensor = self.head(torch.tanh(self.hidden(h)))
        return result


class Functional(nn.Module):
    """A raw table, which is the matrix of the head, too."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.tied = tied
        self.words = nn.Parameter(torch.randn(ROWS, WIDTH))
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, ROWS, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        h = torch.tanh(self.mix(torch.tanh(F.embedding(ids, self.words)))).mean(1)
        return F.linear(h, self.words) if self.tied else self.last(h)


class Tied(nn.Module):
    """A head that holds the table of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(ROWS, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, ROWS, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        h = torch.tanh(self.mix(torch.tanh(self.words(ids)).mean(1)))
        result: Tensor = self.head(h)
        return result


def seeded(net: Any, *args: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module = net(*args)
        return model


def policy(rule: Any, default: str = "bp", where: Any = None, **options: Any) -> fxbio.Policy:
    entry = {"where": where or {"op": "embedding"}, "rule": rule}
    entry |= {"with": options} if options else {}
    content = {"version": 1, "default": default, "rules": [entry]}
    return fxbio.Policy.from_yaml(yaml.safe_dump(content))


def gradients(model: nn.Module) -> tuple[Tensor, dict[str, Tensor | None]]:
    model.zero_grad(set_to_none=True)
    out = model(IDS)
    F.cross_entropy(out, LABELS).backward()
    return out.detach(), {name: p.grad for name, p in model.named_parameters()}


# The plan


@pytest.mark.parametrize(
    ("net", "args", "expected"),
    [
        (Tokens, (), [("words", "embedding"), ("hidden", "linear"), ("head", "linear")]),
        (
            Positions,
            (),
            [
                ("words", "embedding"),
                ("places", "embedding"),
                ("hidden", "linear"),
                ("head", "linear"),
            ],
        ),
        (Functional, (False,), [("words", "embedding"), ("mix", "linear"), ("last", "linear")]),
        (Functional, (True,), [("words", "embedding"), ("mix", "linear"), ("words#1", "linear")]),
        (Tied, (), [("words", "embedding"), ("mix", "linear"), ("head", "linear")]),
    ],
)
def test_every_look_up_is_a_site(net: Any, args: Any, expected: list[tuple[str, OpKind]]) -> None:
    graph = fxbio.capture(seeded(net, *args), IDS)
    assert [(site.name, site.op) for site in graph.sites if site.calls] == expected
    assert {site.depth for site in graph.sites if site.op == "embedding"} == {0}
    assert [site.depth for site in graph.sites if site.name in ("mix", "hidden")] == [0]
    assert all(site.unreachable is None for site in graph.sites)


def test_a_table_keeps_bp_unless_its_kind_is_named_and_the_plan_counts_it() -> None:
    plan = fxbio.plan(seeded(Tokens), fxbio.Policy.uniform("fa"), IDS)
    rules = {a.site.name: (a.rule, a.decided_by.name) for a in plan.assignments}
    assert rules["words"] == ("bp", "embeddings keep bp")
    assert rules["hidden"][0] == "fa"
    assert "embeddings, which keep bp: 1 (see op: embedding)" in str(plan)
    totals = {total.rule: total.parameters for total in plan.totals()}
    assert totals["bp"] == ROWS * WIDTH


def test_in_a_tied_model_a_parameter_is_counted_with_the_rule_of_the_matrix() -> None:
    plan = fxbio.plan(seeded(Tied), fxbio.Policy.uniform("fa"), IDS)
    totals = {total.rule: (total.sites, total.weights, total.share) for total in plan.totals()}
    assert totals["bp"] == (1, 0, 0.0)
    assert totals["fa"] == (2, 2, 1.0)


@pytest.mark.parametrize(
    "where", [{"module": ["words", "hidden"]}, {"module": "words"}, {"any": [{"module": "words"}]}]
)
def test_a_pattern_that_names_a_table_alone_must_name_its_kind(where: Any) -> None:
    with pytest.raises(PolicyError, match="select them with op: embedding"):
        fxbio.plan(seeded(Tokens), policy("frozen", where=where), IDS)


# Rules


BELOW = [
    name
    for name, rule in available_rules().items()
    if rule.family == "asymmetric" and name not in ("bp", "frozen", "stop")
]


@pytest.mark.parametrize("rule", BELOW)
def test_rules_about_the_error_below_are_refused_by_name(rule: str) -> None:
    with pytest.raises(PolicyError, match=f"rule '{rule}' cannot serve 'words'"):
        fxbio.plan(seeded(Tokens), policy(rule), IDS)


@pytest.mark.parametrize(
    ("rule", "options", "reason"),
    [("dtp", {}, "not embedding"), ("dfa", {"at": "input", "skip": "sum"}, "indices")],
)
def test_so_are_targets_and_errors_at_its_input(rule: str, options: Any, reason: str) -> None:
    with pytest.raises(PolicyError) as caught:
        fxbio.plan(seeded(Tokens), policy(rule, **options), IDS)
    assert reason in str(caught.value)


NETS: dict[str, tuple[Any, ...]] = {
    "layer": (Tokens,),
    "positions": (Positions,),
    "functional": (Functional, False),
}
nets = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


@nets
def test_a_frozen_table_learns_nothing_and_all_else_as_before(net: Any) -> None:
    stock = seeded(*net)
    model = fxbio.transform(stock, policy("frozen"), IDS)
    tables = {"words", "words.weight", "places.weight"}
    out, found = gradients(model)
    expected_out, expected = gradients(stock)
    assert torch.equal(out, expected_out)
    for name, gradient in expected.items():
        if name in tables:
            assert found[name] is None
            assert not model.get_parameter(name).requires_grad
        else:
            assert torch.equal(found[name], gradient)  # type: ignore[arg-type]
    assert fxbio.verify(model).ok
    model.requires_grad_(True)  # a loop that thaws everything does not thaw it
    assert {name for name, grad in gradients(model)[1].items() if grad is None} == (
        tables & expected.keys()
    )
    assert all(p.requires_grad for p in fxbio.revert(model).parameters())


@nets
def test_stop_says_what_holds_anyway(net: Any) -> None:
    stock = seeded(*net)
    model = fxbio.transform(stock, policy("stop"), IDS)
    (out, found), (expected_out, expected) = gradients(model), gradients(stock)
    assert torch.equal(out, expected_out)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)
    assert fxbio.verify(model).ok


def by_hand(model: nn.Module, out: Tensor) -> dict[str, Tensor]:
    """Gradients of the tables where ``B e`` arrives behind the nonlinearity that follows them."""
    words, places = (
        model.get_parameter(name).detach().requires_grad_()
        for name in ("words.weight", "places.weight")
    )
    error = (out.softmax(-1) - F.one_hot(LABELS, CLASSES)) / len(LABELS)
    (matrix,) = (
        b for name, b in model.named_buffers() if "fxbio_route" in name and b.shape[1] == 12
    )
    arriving = (error @ matrix).reshape(len(IDS), LENGTH, WIDTH)
    receiver = torch.tanh(words[IDS] + places[torch.arange(LENGTH)])
    receiver.backward(arriving)
    assert words.grad is not None
    assert places.grad is not None
    return {"words.weight": words.grad, "places.weight": places.grad}


@pytest.mark.parametrize("default", ["bp", "dfa", "usf"])
def test_broadcast_errors_arrive_at_tables(default: str) -> None:
    stock = seeded(Positions)
    model = fxbio.transform(stock, policy("dfa", default), IDS)
    out, found = gradients(model)
    assert torch.equal(out, gradients(stock)[0])
    for name, gradient in by_hand(model, out).items():
        torch.testing.assert_close(found[name], gradient)
    assert fxbio.verify(model).ok
    rows = {row.site: row for row in audit(model).rows}
    assert rows["words"].ran
    assert rows["words"].transport == "none"
    assert [source.name for source in rows["words"].sources] == ["head"]


def test_a_tied_head_keeps_its_own_rule_beside_it() -> None:
    stock = seeded(Tied)
    model = fxbio.transform(stock, policy("dfa", "usf"), IDS)
    assert fxbio.verify(model).ok
    assert torch.equal(gradients(model)[0], gradients(stock)[0])


@pytest.mark.parametrize(("rule", "default"), [("frozen", "bp"), ("frozen", "fa"), ("stop", "fa")])
def test_a_table_that_is_a_matrix_too_cannot_both_learn_and_not(rule: str, default: str) -> None:
    with pytest.raises(PolicyError, match=r"two rules for the one weight 'words\.weight'"):
        fxbio.plan(seeded(Tied), policy(rule, default), IDS)


def test_tied_uses_in_one_module_have_the_rules_of_the_plan() -> None:
    """The head is under fa; the look-up of the same parameter stays as it is."""
    stock = seeded(Functional, True)
    model = fxbio.transform(stock, fxbio.Policy.uniform("fa"), IDS)
    (out, found), (expected_out, _) = gradients(model), gradients(stock)
    assert torch.equal(out, expected_out)
    assert fxbio.verify(model).ok
    with torch.profiler.profile() as profile:
        model(IDS)
    seen = [event.name for event in profile.events()]
    assert "fxbio::embedding" not in seen
    assert seen.count("fxbio::linear") == 2
    assert found["words"] is not None


def test_both_uses_may_be_frozen() -> None:
    model = fxbio.transform(seeded(Functional, True), policy("frozen", "frozen"), IDS)
    assert fxbio.verify(model).ok
    assert all(
        gradient is None for name, gradient in gradients(model)[1].items() if "bias" not in name
    )


def test_a_folder_keeps_the_rules_of_tables(tmp_path: Path) -> None:
    model = fxbio.transform(seeded(Positions), policy("dfa", "dfa"), IDS)
    fxbio.save(model, tmp_path / "saved")
    loaded = fxbio.load(tmp_path / "saved", seeded(Positions), IDS)
    for name, gradient in gradients(model)[1].items():
        assert torch.equal(gradients(loaded)[1][name], gradient)  # type: ignore[arg-type]


def test_a_picture_has_a_box_for_each_table() -> None:
    picture = draw(seeded(Positions), policy("dfa"), IDS)
    titles = {node.title for node in picture.nodes}
    assert {"words", "places"} <= titles


def test_alignment_compares_the_gradients_of_tables_that_have_a_rule() -> None:
    model = fxbio.transform(seeded(Positions), policy("dfa"), IDS)
    rows = {row.site: row for row in fxbio.alignment(model, IDS).rows}
    assert -1.0 <= (rows["words"].gradient_cosine or 2.0) < 0.999
    assert rows["words"].weight_angle is None
    assert "words" not in fxbio.feedback_weights(model)
