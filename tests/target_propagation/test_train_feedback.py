"""Training inverses in steps: what is minimised, what is left alone, and several ranks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

from fxbio.target_propagation.phase import set_phase
from fxbio.target_propagation.train_feedback import train_feedback
from tests.target_propagation import ddp_worker
from tests.target_propagation.chains import Chain, mlp
from tests.target_propagation.ddp_worker import gradients, half, prepared

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    sys.path.append(ROOT)  # spawned processes import the worker by name


def batch(size: int = 256) -> Tensor:
    return torch.randn(size, 6, dtype=torch.float64)


def angle(chain: Chain, index: int, h: Tensor) -> float:
    """Between J_g and J_fᵀ, in degrees, at one point."""
    x = h
    for block in chain.blocks[:index]:
        x = block(x)
    block, target = chain.blocks[index], chain.targets[index]
    j_f = torch.autograd.functional.jacobian(block, x)
    j_g = torch.autograd.functional.jacobian(target.inverse, block(x))
    cosine = (j_g * j_f.T).sum() / (j_g.norm() * j_f.norm())
    return float(cosine.acos().rad2deg())


def test_jacobians_become_transposed() -> None:
    """With l-drl, and with a chain of linear blocks almost exactly."""
    chain = mlp("l-drl", iterations=300, feedback_lr=0.2)
    for block in chain.blocks:
        if len(block) > 1:
            block[1] = nn.Identity()
    for target in chain.targets:
        if target.cuts:
            target.inverse = nn.Sequential(target.inverse[-1])
    x = batch(2000)
    before = [angle(chain, index, x[0]) for index in (1, 2)]
    blocks, activations = prepared(chain, x)
    losses = train_feedback(blocks, activations)
    after = [angle(chain, index, x[0]) for index in (1, 2)]
    assert len(losses) == 2
    assert max(losses) < 0  # −‖W‖²σ² at the minimum
    assert min(before) > 20
    assert max(after) < 5


@pytest.mark.parametrize("rule", ["drl", "l-drl"])
def test_only_inverses_learn(rule: str) -> None:
    chain = mlp(rule, iterations=3)
    blocks, activations = prepared(chain, batch())
    before = {name: p.clone() for name, p in chain.named_parameters()}
    train_feedback(blocks, activations)
    changed = {name for name, p in chain.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if "inverse" in name}
    assert all(p.grad is None for p in chain.parameters())


def test_rules_without_iterations_are_passed_by() -> None:
    for chain in (mlp("dtp"), mlp("l-drl", iterations=0)):
        blocks, activations = prepared(chain, batch())
        assert [block.optimizer for block in blocks] == [None] * 3
        assert train_feedback(blocks, activations) == []


def test_trained_in_steps_an_inverse_gets_no_gradient_in_the_backward_pass() -> None:
    chain = mlp("l-drl")
    chain(batch()).square().sum().backward()
    assert {n for n, p in chain.named_parameters() if p.grad is None} == {
        name for name, _ in chain.named_parameters() if "inverse" in name
    }


def test_momentum_is_kept_from_batch_to_batch() -> None:
    chain = mlp("l-drl", iterations=1)
    blocks, activations = prepared(chain, batch())
    optimizer = blocks[1].optimizer
    assert optimizer is not None
    assert optimizer.defaults["momentum"] == 0.9
    train_feedback(blocks, activations)
    train_feedback(blocks, activations)
    assert len(optimizer.state) == 2


def test_the_difference_loss_goes_to_the_output_and_back() -> None:
    """Meulemans et al. 2020, for the lower inverse of three blocks."""
    chain = mlp("drl", iterations=1, feedback_momentum=0.0, feedback_lr=0.5, sigma=0.2)
    f, (g1, g2) = list(chain.blocks), [t.inverse for t in chain.targets][1:]
    blocks, h = prepared(chain, batch(4))
    state = torch.random.get_rng_state()
    noisy = h[1] + 0.2 * torch.randn_like(h[1])
    with torch.no_grad():
        reached = h[2] + g2(f[2](f[1](noisy))) - g2(h[3])
    loss = (h[1] + g1(reached) - g1(h[2]) - noisy).square().sum(1).mean() / 0.2**2
    weight = g1[0].weight
    (gradient,) = torch.autograd.grad(loss, weight)
    expected = (weight - 0.5 * gradient).detach()
    torch.random.set_rng_state(state)
    train_feedback(blocks, h)
    torch.testing.assert_close(weight.detach(), expected)


def test_two_processes_do_what_one_does(tmp_path: Path) -> None:
    mp.spawn(ddp_worker.run, args=(str(tmp_path),), nprocs=ddp_worker.RANKS)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(ddp_worker.RANKS))
    torch.testing.assert_close(one["in steps"], other["in steps"], rtol=0, atol=0)
    name = "targets.1.inverse.1.weight"
    assert not torch.equal(one["in steps"]["state"][name], mlp("l-drl").state_dict()[name])
    chain = mlp("tp")
    halves = [half(rank) for rank in range(ddp_worker.RANKS)]
    x, y = (torch.cat(parts) for parts in zip(*halves, strict=True))
    for phase, found in one["under DDP"].items():
        set_phase(chain.targets, phase)
        torch.testing.assert_close(found, gradients(chain, chain, x, y))
        torch.testing.assert_close(found, other["under DDP"][phase])
