"""The difference op by itself: exactness, what it survives, and what it refuses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

from fxbio.errors import UnreachableWeightError
from fxbio.target_propagation.difference import difference, relay, scale_error

N, IN, OUT = 4, 5, 6


class Block(nn.Module):
    """tanh layers with a difference behind the second, and a readout."""

    def __init__(self, checkpointed: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.below, self.layer = nn.Linear(3, IN), nn.Linear(IN, OUT)
        self.inverse = nn.Sequential(nn.Linear(OUT, IN), nn.Tanh())
        self.readout = nn.Linear(OUT, 2)
        self.checkpointed = checkpointed

    def part(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.layer(x.detach()))
        return scale_error(difference(h, x, self.inverse, samples=h.shape[0]), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.below(x))
        h = checkpoint(self.part, x, use_reentrant=False) if self.checkpointed else self.part(x)
        return self.readout(h)


def gradients(model: nn.Module, run: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
    model.zero_grad()
    x = torch.linspace(-1, 1, N * 3).reshape(N, 3)
    (model if run is None else run)(x).square().sum(1).mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(found: dict[str, Tensor], **tolerance: float) -> None:
    torch.testing.assert_close(found, gradients(Block()), **tolerance)


def test_a_linear_inverse_sends_the_transposed_error() -> None:
    """``g(h) − g(h − δ) = V δ``: with V = Wᵀ, that of backprop."""
    h, x = torch.randn(N, OUT, requires_grad=True), torch.randn(N, IN, requires_grad=True)
    inverse = nn.Linear(OUT, IN)
    error = torch.randn(N, OUT)
    difference(h, x, inverse, samples=N).backward(error)
    torch.testing.assert_close(x.grad, error @ inverse.weight.T, rtol=1e-4, atol=1e-5)
    assert torch.equal(h.grad, error)
    assert inverse.weight.grad is None


def test_the_value_is_bitwise_that_of_the_block() -> None:
    h, x = torch.randn(N, OUT, requires_grad=True), torch.randn(N, IN, requires_grad=True)
    for out in (difference(h, x, nn.Linear(OUT, IN)), relay(h, x), scale_error(h, 0.1)):
        assert torch.equal(out, h)


def test_nothing_is_sent_to_what_needs_no_error() -> None:
    h, x = torch.randn(N, OUT, requires_grad=True), torch.randn(N, IN)
    assert difference(h, x, nn.Linear(OUT, IN)) is h
    with torch.no_grad():
        assert difference(h, x.requires_grad_(), nn.Linear(OUT, IN)) is h


def test_target_propagation_is_not_corrected() -> None:
    h, x = torch.randn(N, OUT, requires_grad=True), torch.randn(N, IN, requires_grad=True)
    inverse, error = nn.Linear(OUT, IN), torch.randn(N, OUT)
    difference(h, x, inverse, samples=3, corrected=False).backward(error)
    torch.testing.assert_close(x.grad, (x - inverse(h - 3 * error)).detach() / 3)


def test_a_relay_sends_zeros_and_cuts_the_block_off() -> None:
    h, x = torch.randn(N, OUT, requires_grad=True), torch.randn(N, IN, requires_grad=True)
    relay(h, x).sum().backward()
    assert h.grad is None
    assert torch.equal(x.grad, torch.zeros(N, IN))


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "checkpointing", "functional_call"])
def test_survives(how: str) -> None:
    model = Block()
    match how:
        case "deepcopy":
            same(gradients(copy.deepcopy(model)))
        case "pickle":
            same(gradients(pickle.loads(pickle.dumps(model))))
        case "checkpointing":
            same(gradients(Block(checkpointed=True)))
        case "functional_call":
            run = torch.func.functional_call
            same(gradients(model, lambda x: run(model, dict(model.named_parameters()), (x,))))


@pytest.mark.parametrize("checkpointed", [False, True], ids=["plain", "checkpointed"])
def test_compiles_as_one_graph(checkpointed: bool) -> None:
    model = Block(checkpointed)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    same(gradients(model, compiled), rtol=1e-5, atol=1e-7)


def test_compiled_code_follows_the_weights_of_the_inverse() -> None:
    """They are inputs of the compiled graph, not constants."""
    model, stepped = Block(), Block()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    gradients(model, compiled)
    for each in (model, stepped):
        with torch.no_grad():
            each.inverse[0].weight.mul_(3)
    torch.testing.assert_close(gradients(model, compiled), gradients(stepped))


def test_under_autocast_targets_are_computed_in_full_precision() -> None:
    """In bfloat16, h − δ would be h again for a small δ."""
    model = Block()
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(model)
    same(found, rtol=0.1, atol=2e-3)
    h, x = (torch.ones(N, k, dtype=torch.bfloat16, requires_grad=True) for k in (OUT, IN))
    inverse = nn.Linear(OUT, IN)
    difference(h, x, inverse).backward(torch.full_like(h, 1e-3))
    expected = inverse.weight.sum(1) * torch.tensor(1e-3, dtype=torch.bfloat16).float()
    assert x.grad.dtype == torch.bfloat16
    torch.testing.assert_close(x.grad[0].float(), expected, rtol=0.02, atol=1e-6)


def test_a_second_derivative_is_refused() -> None:
    h, x = torch.randn(N, OUT, requires_grad=True), torch.randn(N, IN, requires_grad=True)
    out = difference(h, x, nn.Linear(OUT, IN)).square().sum()
    (gradient,) = torch.autograd.grad(out, x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("strict", [False, True])
def test_export_is_refused(strict: bool) -> None:
    with pytest.raises(Exception, match="cannot keep target propagation"):
        torch.export.export(Block(), (torch.randn(N, 3),), strict=strict)


def test_tracing_is_refused() -> None:
    with pytest.raises(UnreachableWeightError, match=r"torch\.fx cannot keep target propagation"):
        fx.symbolic_trace(Block())
