"""Weights of one dimension: ``F.linear`` with a vector, ``mv``, ``dot`` and ``@``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio

Apply = Callable[[Tensor, Tensor], Tensor]


class Scorer(nn.Module):
    def __init__(self, apply: Apply, weight: tuple[int, ...]) -> None:
        super().__init__()
        self.layer, self.w = nn.Linear(6, 4), nn.Parameter(torch.randn(weight))
        self.apply_weight = apply

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_weight(torch.tanh(self.layer(x)), self.w)


ROADS = pytest.mark.parametrize(
    ("apply", "weight", "shape"),
    [
        pytest.param(F.linear, (4,), (2, 3, 6), id="linear-3d"),
        pytest.param(F.linear, (4,), (3, 6), id="linear-2d"),
        pytest.param(F.linear, (4,), (6,), id="linear-vectors"),
        pytest.param(F.linear, (3, 4), (6,), id="linear-vector-input"),
        pytest.param(torch.matmul, (4,), (2, 3, 6), id="matmul"),
        pytest.param(torch.mv, (4,), (3, 6), id="mv"),
        pytest.param(lambda h, w: torch.mv(w, h), (3, 4), (6,), id="mv-of-weight"),
        pytest.param(torch.dot, (4,), (6,), id="dot"),
        pytest.param(lambda h, w: w.dot(h), (4,), (6,), id="dot-of-weight"),
    ],
)
RULES = [("fa", {}), ("usf", {"magnitude": 1.0}), ("fbp", {}), ("kp", {}), ("sa", {})]


@ROADS
@pytest.mark.parametrize(("rule", "options"), RULES, ids=[name for name, _ in RULES])
def test_gradients_by_plain_autograd(
    rule: str,
    options: dict[str, float],
    apply: Apply,
    weight: tuple[int, ...],
    shape: tuple[int, ...],
) -> None:
    """``y = f(h, W)`` where the error goes back as through ``f(h, B)``."""
    torch.manual_seed(0)
    stock, x = Scorer(apply, weight), torch.randn(shape)
    model = fxbio.transform(stock, fxbio.Policy.uniform(rule, **options), x)
    feedback = fxbio.feedback_weights(model)["w"].detach()
    hidden = torch.tanh(stock.layer(x))
    sent = apply(hidden, feedback)
    expected = apply(hidden.detach(), stock.w) + (sent - sent.detach())
    found = model(x)
    assert torch.equal(found, stock(x))
    error = torch.randn(found.shape)
    found.backward(error)
    expected.backward(error)
    for name, parameter in stock.named_parameters():
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad)
    assert fxbio.verify(model, x).ok
