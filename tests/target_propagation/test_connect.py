"""Which block carries what, and where targets begin."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from fxbio.errors import PolicyError
from fxbio.rules import Rule, make_rule
from fxbio.target_propagation.block_target import BlockTarget
from fxbio.target_propagation.connect import block_rules, make_targets
from tests.target_propagation.chains import partition_of


@pytest.fixture
def model() -> nn.Sequential:
    widths = [4, 5, 6, 7, 3]
    pairs = itertools.pairwise(widths)
    return nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairs))


def targets(model: nn.Module, given: dict[str, Rule], x: Any = None) -> dict[str, BlockTarget]:
    blocks = partition_of(model, torch.randn(2, 4) if x is None else x)
    return make_targets(blocks, block_rules(blocks, given), seed=0)


def given(rule: str, *blocks: int, **options: object) -> dict[str, Rule]:
    return {f"{b}.0": make_rule(rule, options) for b in blocks}


def carried(made: dict[str, BlockTarget]) -> dict[str, tuple[bool, bool, float]]:
    return {name: (t.cuts, t.softmax, t.factor) for name, t in made.items()}


def test_from_a_step_of_backprop_through_the_output_layer(model: nn.Module) -> None:
    """The output layer learns by backprop, whether it has the rule or not."""
    hidden = {"0.0": (False, False, 1.0), "1.0": (True, False, 1.0), "2.0": (True, False, 0.3)}
    everywhere = targets(model, given("dtp", 0, 1, 2, 3, step=0.3))
    assert carried(everywhere) == hidden | {"3.0": (False, False, 1.0)}
    assert carried(targets(model, given("dtp", 0, 1, 2, step=0.3))) == hidden


def test_from_the_label(model: nn.Module) -> None:
    made = targets(model, given("ao-sdtp", 0, 1, 2, 3, auxiliary=9))
    assert carried(made) == {
        **{"0.0": (False, False, 1.0), "1.0": (True, False, 1.0)},
        **{"2.0": (True, False, 1.0), "3.0": (True, True, 1.0)},
    }
    assert [t.auxiliary is None for t in made.values()] == [True, True, True, False]
    assert made["3.0"].auxiliary(torch.randn(2, 7)).shape == (2, 9)


def test_from_a_step_of_the_logits(model: nn.Module) -> None:
    made = targets(model, given("l-drl", 0, 1, 2, 3, step=0.5))
    assert [t.factor for t in made.values()] == [1.0, 1.0, 1.0, 0.5]
    assert all(t.cuts for t in list(made.values())[1:])


def test_what_lies_below_is_sent_a_difference_too(model: nn.Module) -> None:
    assert carried(targets(model, given("dtp", 1, 2))) == {
        "1.0": (True, False, 1.0),
        "2.0": (True, False, 0.1),
    }
    assert targets(model, given("bp", 0, 1)) == {}


def test_features_and_inverses_follow_from_the_seed(model: nn.Module) -> None:
    one, again = (targets(model, given("ao-sdtp", 2, 3)) for _ in range(2))
    torch.testing.assert_close(one["3.0"].state_dict(), again["3.0"].state_dict())


def refused(model: nn.Module, rules: dict[str, Rule], x: Any = None) -> str:
    with pytest.raises(PolicyError) as caught:
        targets(model, rules, x)
    return str(caught.value)


def test_the_label_needs_logits_at_the_output(model: nn.Module) -> None:
    message = refused(model, given("sdtp", 0, 1))
    assert message.startswith("rule 'sdtp' begins at the label, but '1.0' is not the output\n")
    message = refused(model, given("sdtp", 0, 1, 2, 3), torch.randn(2, 9, 4))
    assert "which needs logits (N, classes); the output of '3.0' is (2, 9, 3)" in message


def test_the_output_layer_alone_is_refused(model: nn.Module) -> None:
    assert refused(model, given("dtp", 3)).splitlines() == [
        "rule 'dtp' is given to the output layer '3.0' and not to the layer below",
        "  = note: the layer below is in block '2.0'",
        "  = help: under this rule the output layer itself learns by backprop, so give it rule: bp",
    ]


def test_a_block_has_one_rule() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.tanh(self.a(x))) + x

    model = nn.Sequential(nn.Linear(4, 4), Residual(), nn.Linear(4, 2))
    message = refused(model, {"1.a": make_rule("dtp")})
    assert message.splitlines() == [
        "the sites of block '1' have different rules",
        "  = note: 1.a: dtp",
        "  = note: 1.b: bp",
        "  = help: targets are sent from block to block: give all sites of a block the same rule",
    ]
