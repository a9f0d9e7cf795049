"""Weights keep their norms, keep learning, and resume."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxbio
from fxbio.errors import FxbioError
from fxbio.optim import no_sign_change, strict_norm


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def batches(count: int, start: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Inputs whose class is the largest of their first three entries."""
    found = []
    for number in range(start, start + count):
        x = torch.randn(32, 6, generator=torch.Generator().manual_seed(number))
        found.append((x, x[:, :3].argmax(dim=1)))
    return found


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: list[tuple[Tensor, Tensor]]
) -> float:
    for x, y in data:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("how", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_the_update_is_that_of_the_formula(how: dict[str, bool]) -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = torch.optim.SGD([weight], lr=1.0, **how)
    strict_norm(optimizer)
    weight.grad = torch.tensor([[-3.0, -4.0]])
    optimizer.step()  # (6, 8) has norm 10
    torch.testing.assert_close(weight.detach(), torch.tensor([[3.0, 4.0]]))
    weight.grad = torch.tensor([[-2.0, 4.0]])
    optimizer.step()  # (5, 0)
    torch.testing.assert_close(weight.detach(), torch.tensor([[5.0, 0.0]]))


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_norms_stay_and_the_same_parameters_keep_learning(
    make: type[torch.optim.Optimizer],
) -> None:
    model = network()
    same = list(model.parameters())
    norms = [float(p.detach().norm()) for p in model.parameters()]
    optimizer = make(model.parameters(), lr=0.05)
    strict_norm(optimizer)
    first = train(model, optimizer, batches(1))
    last = train(model, optimizer, batches(200))
    assert last < 0.6 * first
    assert all(p is q for p, q in zip(model.parameters(), same, strict=True))
    after = [float(p.detach().norm()) for p in model.parameters()]
    assert after[0::2] == pytest.approx(norms[0::2], rel=1e-5)
    assert after[1] != pytest.approx(norms[1], rel=1e-2)  # the bias is free


def test_a_transformed_model_learns_under_it() -> None:
    model = fxbio.transform(network(), fxbio.Policy.uniform("brsf"), torch.rand(2, 6))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    strict_norm(optimizer)
    first = train(model, optimizer, batches(1))
    assert train(model, optimizer, batches(200)) < 0.6 * first


def test_a_resumed_run_is_exact() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    strict_norm(optimizer)
    train(model, optimizer, batches(5))
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    train(model, optimizer, batches(5, start=5))

    resumed = network()
    with torch.no_grad():
        resumed[0].weight.mul_(3.0)  # a start of its own, with another norm
    again = torch.optim.SGD(resumed.parameters(), lr=0.1, momentum=0.9)
    strict_norm(again)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    resumed.load_state_dict(saved["model"])
    again.load_state_dict(saved["optimizer"])
    train(resumed, again, batches(5, start=5))
    for one, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_two_attachments_share_a_state_dict() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    strict_norm(optimizer, [model[0].weight])
    strict_norm(optimizer, [model[2].weight])
    saved = optimizer.state_dict()
    assert list(saved["fxbio_strict_norm"]) == [0, 2]
    optimizer.load_state_dict(saved)


def test_a_state_dict_without_norms_is_refused() -> None:
    model = network()
    plain = torch.optim.SGD(model.parameters(), lr=0.1).state_dict()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    strict_norm(optimizer)
    with pytest.raises(FxbioError, match="no initial norms for all weights") as caught:
        optimizer.load_state_dict(plain)
    assert "load it first and call strict_norm(optimizer) after that" in str(caught.value)


def test_an_optimizer_without_it_ignores_the_norms() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with strict_norm(optimizer):
        saved = copy.deepcopy(optimizer.state_dict())
    assert "fxbio_strict_norm" in saved
    optimizer.load_state_dict(saved)
    assert "fxbio_strict_norm" not in optimizer.state_dict()


def test_after_no_sign_change_both_hold() -> None:
    model = network()
    signs, norm = model[0].weight.detach().sign(), float(model[0].weight.detach().norm())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    no_sign_change(optimizer)
    strict_norm(optimizer)
    train(model, optimizer, batches(30))
    assert torch.equal(model[0].weight.detach().sign(), signs)
    assert float(model[0].weight.detach().norm()) == pytest.approx(norm, rel=1e-5)


def test_a_step_skipped_by_the_scaler_changes_nothing() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    strict_norm(optimizer)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale((weight * float("inf")).sum()).backward()
    scaler.step(optimizer)
    assert weight.tolist() == [[3.0, 4.0]]


def test_bfloat16_norms_are_computed_in_float32() -> None:
    weight = nn.Parameter(torch.full((64, 64), 0.1, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    strict_norm(optimizer)
    weight.grad = torch.full_like(weight, -0.1)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.full((64, 64), 0.1, dtype=torch.bfloat16))


def test_a_zero_weight_is_refused() -> None:
    weight = nn.Parameter(torch.zeros(2, 3))
    with pytest.raises(FxbioError, match=r"a weight of shape \(2, 3\) is zero"):
        strict_norm(torch.optim.SGD([weight], lr=1.0))


def test_lbfgs_is_refused() -> None:
    with pytest.raises(FxbioError, match="LBFGS"):
        strict_norm(torch.optim.LBFGS(network().parameters()))


def test_it_is_found_in_the_package() -> None:
    assert fxbio.optim.strict_norm is strict_norm
