from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

import fxbio
from fxbio.errors import VerificationError
from fxbio.ops.functional import broadcast
from fxbio.passes import Program
from fxbio.passes.check_witness import CheckWitness
from fxbio.passes.pipeline import DEFAULT_PIPELINE
from fxbio.runtime.classes import unbind_module
from tests.passes.program import program, program_of, run
from tests.small import BUILDERS, snapshot

BIND = "assign-rules,check-support,make-feedback,lower-feedback,bind-modules"


@pytest.mark.parametrize("kind", BUILDERS)
def test_every_weight_is_seen_and_the_model_left_alone(kind: str) -> None:
    on = program(kind, "frsf")
    run(BIND, on)
    before = snapshot(on.model)
    weights = len({a.site.weight for a in on.planned().rewritten()})
    assert CheckWitness().run(on).summary == f"{weights} weights seen to run their rules"
    assert snapshot(on.model) == before


@pytest.mark.parametrize(("kind", "path"), [("layers", "second"), ("attention", "attention")])
def test_a_module_that_lost_its_rule_is_named(kind: str, path: str) -> None:
    on = program(kind)
    run(BIND, on)
    unbind_module(on.model.get_submodule(path))
    with pytest.raises(VerificationError, match="do not run their rule") as caught:
        run("check-witness", on)
    assert f"{path}" in str(caught.value)
    assert "was never run" in str(caught.value)


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 7)
        self.three, self.last = nn.Linear(7, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> Any:
        h = torch.tanh(self.two(torch.tanh(self.one(x))))
        return self.last(torch.tanh(self.three(h)))


def bound(where: str, rule: str) -> Program:
    """Four layers of which one has the rule, up to check-witness."""
    entry = f"default: bp\nrules: [{{where: {where}, rule: {rule}}}]"
    policy = fxbio.Policy.from_yaml("version: 1\n" + entry)
    on = program_of(Chain(), torch.randn(4, 6), policy)
    run(DEFAULT_PIPELINE.removesuffix(",check-witness"), on)
    return on


def lose_rules(on: Program) -> None:
    for node in on.lowered.graph.nodes:
        node.meta.pop("spec", None)


def lose_ports(on: Program) -> None:
    for node in on.lowered.graph.find_nodes(op="call_function", target=broadcast):
        node.args = (node.args[0], [], *node.args[2:])


def lose_blocks(on: Program) -> None:
    graph = on.lowered.graph
    for node in [n for n in graph.nodes if "block" in n.meta]:
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)


@pytest.mark.parametrize(
    ("where", "rule", "lose", "says"),
    [
        ("two", "usf", lose_rules, "two.weight: 'usf{.*}' was run and is not in the graph"),
        ("one", "dfa", lose_ports, "one: an error enters as the model ran, but not in the graph"),
        ("three", "dtp", lose_blocks, "three: a target is sent as the model ran, but not in"),
    ],
)
def test_what_the_printed_graph_does_not_say_must_not_run(
    where: str, rule: str, lose: Any, says: str
) -> None:
    on = bound(where, rule)
    assert run("check-witness", on) is on.model
    lose(on)
    with pytest.raises(VerificationError) as caught:
        run("check-witness", on)
    assert re.search(says, str(caught.value))


def test_what_the_printed_graph_says_must_run() -> None:
    on = bound("two", "usf")
    ruled = next(node for node in on.lowered.graph.nodes if "spec" in node.meta)
    other = next(node for node in on.lowered.graph.nodes if node.meta.get("site") == "three")
    other.meta["spec"] = ruled.meta["spec"]
    with pytest.raises(VerificationError) as caught:
        run("check-witness", on)
    assert re.search("three.weight: 'usf{.*}' is in the graph and was not run", str(caught.value))
