"""Weights that are applied by other operations than products of matrices, and mere scales."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio

WIDTH = 8
Apply = Callable[[Tensor, nn.Parameter], Tensor]


class Net(nn.Module):
    """A layer, a weight that ``apply`` knows how to use, and a layer."""

    def __init__(self, apply: Apply, *shape: int) -> None:
        super().__init__()
        self.below, self.above = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.weight = nn.Parameter(torch.randn(shape))
        self.apply_weight = apply

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.above(self.apply_weight(self.below(x), self.weight))
        return out


def correlated(h: Tensor, w: Tensor) -> Tensor:
    return torch.stack([(h.roll(i, 1) * w).sum(-1) for i in range(WIDTH)], 1)


MATRICES: dict[str, Apply] = {
    "multiply and sum": lambda h, w: (h[:, None, :] * w).sum(-1),
    "mean": lambda h, w: (h[:, None, :] * w).mean(dim=2),
    "in place": lambda h, w: h[:, None, :].repeat(1, WIDTH, 1).mul_(w).sum(-1),
    "addcmul": lambda h, w: torch.addcmul(torch.ones(WIDTH), h[:, None, :], w).sum(-1),
    "transformed": lambda h, w: (h[:, None, :] * w.tanh()).neg().sum(-1),
    "cosine": lambda h, w: F.cosine_similarity(h[:, None], w[None], dim=-1),
    "distances": lambda h, w: torch.cdist(h, w),
    "vecdot": lambda h, w: torch.linalg.vecdot(h[:, None], w),
    "inner": lambda h, w: torch.inner(h, w),
}
FILTERS: dict[str, Apply] = {
    "spectrum": lambda h, w: torch.fft.irfft(torch.fft.rfft(h) * torch.fft.rfft(w), n=WIDTH),
    "correlation": correlated,
}
SCALES: dict[str, Apply] = {
    "gain": lambda h, w: h * w,
    "divisor": lambda h, w: h / w,
    "positions": lambda h, w: h + w,
    "positions, pooled": lambda h, w: (h[:, None] + w).mean(1),
    "gain, pooled over others": lambda h, w: (h[:, None].expand(-1, 4, -1) * w).mean(1),
    "residual scale": lambda h, w: F.layer_norm(h + w * h.tanh(), (WIDTH,)),
    "root mean square": lambda h, w: h * h.square().mean(-1, keepdim=True).rsqrt() * w,
    "slopes": lambda h, w: F.prelu(h, w),
}


def of(cases: dict[str, Apply], *shape: int) -> list[object]:
    return [pytest.param(apply, shape, id=name) for name, apply in cases.items()]


MIXING = [*of(MATRICES, WIDTH, WIDTH), *of(FILTERS, WIDTH)]


def sends_as_by_w(model: Net, transformed: nn.Module, x: Tensor) -> bool:
    """Whether the layer below gets the error that the weight carries, by plain autograd."""
    error = torch.randn(len(x), WIDTH)
    transformed(x).backward(error)
    h = model.below(x).detach().requires_grad_()
    out = model.apply_weight(h, model.weight)
    above = fxbio.feedback_weights(transformed)["above.weight"]
    (sent,) = torch.autograd.grad(out, h, error @ above)
    found = dict(transformed.named_parameters())["below.weight"].grad
    assert found is not None
    return torch.allclose(found, sent.t() @ x, atol=1e-5)


@pytest.mark.parametrize(("apply", "shape"), MIXING)
def test_a_weight_that_mixes_is_listed_with_the_line(apply: Apply, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = Net(apply, *shape), torch.randn(4, WIDTH)
    policy = fxbio.Policy.uniform("fa")
    plan = fxbio.plan(model, policy, x)
    parts = [part for part in plan.unreachable if "weight" in part.weights]
    assert parts
    assert all(part.origin and part.origin.file == __file__ for part in parts)
    assert "keeps bp" in str(plan)
    assert sends_as_by_w(model, fxbio.transform(model, policy, x), x)


@pytest.mark.parametrize("transformed", [False, True], ids=["stock", "fa"])
@pytest.mark.parametrize(("apply", "shape"), MIXING)
def test_the_audit_does_not_take_it_for_a_scale(
    apply: Apply, shape: tuple[int, ...], transformed: bool
) -> None:
    model, x = Net(apply, *shape), torch.randn(4, WIDTH)
    if transformed:
        fxbio.transform(model, fxbio.Policy.uniform("fa"), x, inplace=True)
    failing = fxbio.audit(model, x).failing("full")
    assert "weight" in [row.site for row in failing]


@pytest.mark.parametrize(("apply", "shape"), of(SCALES, WIDTH))
def test_scales_and_summands_are_not_listed(apply: Apply, shape: tuple[int, ...]) -> None:
    model, x = Net(apply, *shape), torch.randn(4, WIDTH)
    plan = fxbio.plan(model, fxbio.Policy.uniform("fa"), x)
    assert not plan.unreachable
    audit = fxbio.audit(fxbio.transform(model, fxbio.Policy.uniform("fa"), x))
    assert not audit.failing("full")


def test_a_weight_with_a_rule_that_also_mixes_is_refused() -> None:
    """A tied weight must not run backprop beside its rule."""

    def tied(h: Tensor, w: nn.Parameter) -> Tensor:
        return F.linear((h[:, None, :] * w).sum(-1), w)

    with pytest.raises(fxbio.FxbioError, match="also applied without a rule"):
        fxbio.transform(Net(tied, WIDTH, WIDTH), fxbio.Policy.uniform("fa"), torch.randn(4, WIDTH))
