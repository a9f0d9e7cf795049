"""No weight crosses zero."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fxbio.errors import FxbioError
from fxbio.optim import batch_manhattan, no_sign_change


def stepped(values: list[float], grads: list[float], **options: bool) -> torch.Tensor:
    weight = nn.Parameter(torch.tensor([values]))
    optimizer = torch.optim.SGD([weight], lr=1.0, **options)
    no_sign_change(optimizer)
    weight.grad = torch.tensor([grads])
    optimizer.step()
    return weight.detach()[0]


@pytest.mark.parametrize("how", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_what_crosses_is_held_at_its_side(how: dict[str, bool]) -> None:
    found = stepped([1.0, -1.0, 1.0, -1.0, 1.0], [3.0, -3.0, 0.25, 0.5, -1.0], **how)
    torch.testing.assert_close(found, torch.tensor([1e-10, -1e-10, 0.75, -1.5, 2.0]))


def test_landing_on_zero_counts_as_crossing() -> None:
    assert stepped([1.0, -1.0], [1.0, -1.0]).tolist() == pytest.approx([1e-10, -1e-10])


def test_a_zero_weight_is_free() -> None:
    assert stepped([0.0, 0.0, 0.0], [1.0, -1.0, 0.0]).tolist() == [-1.0, 1.0, 0.0]


def test_a_weight_held_back_can_return() -> None:
    weight = nn.Parameter(torch.tensor([[1.0]]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    no_sign_change(optimizer)
    for grad in (5.0, 5.0, -2.0):
        weight.grad = torch.tensor([[grad]])
        optimizer.step()
    assert float(weight.detach()) == pytest.approx(2.0)


def test_float16_holds_its_smallest_normal_number() -> None:
    weight = nn.Parameter(torch.tensor([[1.0]], dtype=torch.float16))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    no_sign_change(optimizer)
    weight.grad = torch.tensor([[3.0]], dtype=torch.float16)
    optimizer.step()
    assert float(weight.detach()) == torch.finfo(torch.float16).tiny


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_signs_stay_through_training(make: type[torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
    optimizer = make(model.parameters(), lr=0.3)
    batch_manhattan(optimizer)
    no_sign_change(optimizer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.randn(8, 5)).square().mean().backward()
        optimizer.step()
    after = dict(model.named_parameters())
    changed = {name: after[name].detach().sign() != old.sign() for name, old in before.items()}
    assert not changed["0.weight"].any()
    assert not changed["2.weight"].any()
    assert changed["0.bias"].any()
    assert not torch.equal(model[0].weight.detach(), before["0.weight"])


def test_it_can_be_removed() -> None:
    weight = nn.Parameter(torch.tensor([[1.0]]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    no_sign_change(optimizer).remove()
    weight.grad = torch.tensor([[3.0]])
    optimizer.step()
    assert float(weight.detach()) == -2.0


def test_lbfgs_is_refused() -> None:
    with pytest.raises(FxbioError, match="LBFGS"):
        no_sign_change(torch.optim.LBFGS([nn.Parameter(torch.ones(1, 1))]))
