"""What a block carries: one backward pass for both kinds of weights, phases, copies."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fxbio.errors import RuleError
from fxbio.target_propagation.losses import LOSSES
from fxbio.target_propagation.phase import Phase, set_phase
from tests.target_propagation.chains import Chain, mlp

RULES = {
    "tp": {},
    "dtp": {},
    "sdtp": {},
    "ao-sdtp": {"auxiliary": 7},
    "drl": {},
    "l-drl": {"iterations": 0},
}


def train(chain: Chain, seed: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    x, y = torch.randn(8, 6, dtype=torch.float64), torch.arange(8) % 3
    chain.zero_grad()
    F.cross_entropy(chain(x), y).backward()
    return {n: p.grad.clone() for n, p in chain.named_parameters() if p.grad is not None}


def learning(chain: Chain) -> tuple[set[str], set[str]]:
    """Which blocks and which inverses get gradients."""
    found = [name.split(".")[:2] for name in train(chain)]
    return {i for kind, i in found if kind == "blocks"}, {
        i for kind, i in found if kind == "targets"
    }


@pytest.mark.parametrize("rule", RULES)
def test_an_inverse_learns_from_its_own_loss_alone(rule: str) -> None:
    chain = mlp(rule, **RULES[rule])
    found = train(chain)
    torch.manual_seed(3)
    h = torch.randn(8, 6, dtype=torch.float64)
    for index, (block, target) in enumerate(zip(chain.blocks, chain.targets, strict=True)):
        x, h = h, block(h)
        if target.inverse is None:
            continue
        loss = target.loss(block, x, h)
        parameters = dict(target.inverse.named_parameters())
        expected = torch.autograd.grad(loss, list(parameters.values()))
        for name, gradient in zip(parameters, expected, strict=True):
            torch.testing.assert_close(found[f"targets.{index}.inverse.{name}"], gradient)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("phase", "blocks", "inverses"),
    [("both", True, True), ("forward", True, False), ("inverse", False, True)],
)
def test_phases(rule: str, phase: Phase, blocks: bool, inverses: bool) -> None:
    chain = mlp(rule, **RULES[rule])
    together = train(chain)
    set_phase(chain.targets, phase)
    inverted = {str(i) for i, target in enumerate(chain.targets) if target.cuts}
    assert learning(chain) == (
        {"0", "1", "2"} if blocks else set(),
        inverted if inverses else set(),
    )
    for name, gradient in train(chain).items():
        torch.testing.assert_close(gradient, together[name])
    set_phase(chain.targets, "both")
    assert train(chain).keys() == together.keys()


def test_an_unknown_phase_is_refused() -> None:
    with pytest.raises(RuleError) as caught:
        set_phase(mlp("dtp").targets, "forwards")
    assert str(caught.value).splitlines() == [
        "unknown phase 'forwards'",
        "  = note: did you mean 'forward'?",
        "  = note: allowed: forward, inverse, both",
    ]


@pytest.mark.parametrize("rule", RULES)
def test_copies_behave_alike(rule: str) -> None:
    chain = mlp(rule, **RULES[rule])
    for phase in ("both", "inverse"):
        set_phase(chain.targets, phase)
        for other in (copy.deepcopy(chain), pickle.loads(pickle.dumps(chain))):
            torch.testing.assert_close(train(other), train(chain))
            assert [t.phase for t in other.targets] == [phase] * 3


@pytest.mark.parametrize("rule", ["tp", "ao-sdtp"])
def test_compiles_as_one_graph(rule: str) -> None:
    chain = mlp(rule, **RULES[rule])
    expected = train(chain)
    chain.compile(fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(train(chain), expected)


def test_the_loss_compiles_as_one_graph() -> None:
    chain = mlp("l-drl", iterations=0)
    expected = train(chain)
    chain.compile(fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(train(chain), expected)


def test_in_evaluation_no_inverse_learns() -> None:
    chain = mlp("dtp").eval()
    assert learning(chain) == ({"0", "1", "2"}, set())
    with torch.no_grad():
        assert not chain(torch.randn(2, 6, dtype=torch.float64)).requires_grad


def test_the_state_is_that_of_a_module() -> None:
    chain, other = mlp("ao-sdtp", auxiliary=7), mlp("ao-sdtp", seed=1, auxiliary=7)
    assert "targets.2.auxiliary.weight" in chain.state_dict()
    other.load_state_dict(chain.state_dict(), strict=True)
    torch.testing.assert_close(train(other), train(chain))
    assert str(chain.targets[2]).startswith("BlockTarget(\n  2.0, ao-sdtp{auxiliary=7}")


def test_losses_are_named_by_rules() -> None:
    assert {mlp(rule, **options).targets[1].rule.loss for rule, options in RULES.items()} == set(
        LOSSES
    )
