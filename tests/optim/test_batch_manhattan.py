"""Batch Manhattan against updates computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fxbio.errors import FxbioError
from fxbio.optim import batch_manhattan


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(size, generator=generator)) for size in ((3, 4), (3,))]


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step + 1)
    grads = [torch.randn(size, generator=generator) for size in ((3, 4), (3,))]
    grads[0][0, 0] = 0.0  # sign(0) = 0: no update by the gradient
    return grads


def run(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: int = 4) -> None:
    for step in range(steps):
        for parameter, grad in zip(params, gradients(step), strict=True):
            parameter.grad = grad
        optimizer.step()


@pytest.mark.parametrize("foreach", [False, True])
def test_sgd_takes_the_sign_before_decay_and_momentum(foreach: bool) -> None:
    params = parameters()
    expected = [p.detach().clone() for p in params]
    velocity = [torch.zeros_like(p) for p in expected]
    for step in range(4):
        for w, v, g in zip(expected, velocity, gradients(step), strict=True):
            v.mul_(0.9).add_(g.sign() + 0.01 * w)
            w.sub_(0.1 * v)
    optimizer = torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01, foreach=foreach)
    batch_manhattan(optimizer)
    run(optimizer, params)
    for parameter, value in zip(params, expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value)


@pytest.mark.parametrize("how", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_adam_sees_signs(how: dict[str, bool]) -> None:
    params = parameters()
    expected = [p.detach().clone() for p in params]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in expected]
    for step in range(4):
        for w, (m, v), g in zip(expected, moments, gradients(step), strict=True):
            m.mul_(0.9).add_(0.1 * g.sign())
            v.mul_(0.999).add_(0.001 * g.sign() ** 2)
            m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
            w.sub_(0.01 * m_hat / (v_hat.sqrt() + 1e-8))
    optimizer = torch.optim.Adam(params, lr=0.01, **how)
    batch_manhattan(optimizer)
    run(optimizer, params)
    for parameter, value in zip(params, expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value)


def test_only_the_given_parameters() -> None:
    weight, bias = parameters()
    start = bias.detach().clone()
    optimizer = torch.optim.SGD([weight, bias], lr=1.0)
    batch_manhattan(optimizer, [weight])
    run(optimizer, [weight, bias], steps=1)
    torch.testing.assert_close(bias.detach(), start - gradients(0)[1])


def test_a_parameter_without_gradient_stays() -> None:
    weight, bias = parameters()
    optimizer = torch.optim.SGD([weight, bias], lr=1.0)
    batch_manhattan(optimizer)
    start = weight.detach().clone()
    bias.grad = torch.ones_like(bias)
    optimizer.step()
    assert torch.equal(weight.detach(), start)


@pytest.mark.parametrize("fused", [False, True])
def test_under_a_grad_scaler(fused: bool) -> None:
    """A fused optimizer divides by the scaler's factor after the hook; the update is the same."""
    weight = nn.Parameter(torch.tensor([[1.0, 2.0, 3.0]]))
    optimizer = torch.optim.SGD([weight], lr=0.5, fused=fused)
    batch_manhattan(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    loss = (weight * torch.tensor([[3.0, -0.1, 0.0]])).sum()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(weight.detach(), torch.tensor([[0.5, 2.5, 3.0]]))


@pytest.mark.parametrize("positional", [False, True])
def test_gradients_computed_by_a_closure(positional: bool) -> None:
    weight = nn.Parameter(torch.tensor([[1.0, 2.0]]))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    batch_manhattan(optimizer)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (weight * torch.tensor([[7.0, -7.0]])).sum()
        loss.backward()
        return loss.detach()

    result = optimizer.step(closure) if positional else optimizer.step(closure=closure)
    assert float(result) == -7.0
    torch.testing.assert_close(weight.detach(), torch.tensor([[0.5, 2.5]]))


def test_a_group_added_later_takes_part() -> None:
    weight, bias = parameters()
    optimizer = torch.optim.SGD([weight], lr=1.0)
    batch_manhattan(optimizer)
    optimizer.add_param_group({"params": [bias]})
    start = bias.detach().clone()
    run(optimizer, [weight, bias], steps=1)
    torch.testing.assert_close(bias.detach(), start - gradients(0)[1].sign())


def test_it_can_be_removed() -> None:
    weight, bias = parameters()
    start = bias.detach().clone()
    optimizer = torch.optim.SGD([weight, bias], lr=1.0)
    with batch_manhattan(optimizer) as attachment:
        pass
    attachment.remove()
    run(optimizer, [weight, bias], steps=1)
    torch.testing.assert_close(bias.detach(), start - gradients(0)[1])


def test_a_scheduler_keeps_working() -> None:
    weight = nn.Parameter(torch.zeros(1, 1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    batch_manhattan(optimizer)
    for _ in range(3):
        weight.grad = torch.tensor([[-42.0]])
        optimizer.step()
        scheduler.step()
    assert weight.tolist() == [[1.0 + 0.5 + 0.25]]


def test_lbfgs_is_refused() -> None:
    with pytest.raises(FxbioError, match="LBFGS takes several steps in one") as caught:
        batch_manhattan(torch.optim.LBFGS(parameters()))
    assert "such as SGD or Adam" in str(caught.value)


def test_a_parameter_of_another_optimizer_is_refused() -> None:
    optimizer = torch.optim.SGD(parameters(), lr=1.0)
    with pytest.raises(FxbioError, match=r"parameter 1 of params, of shape \(2,\), is not held"):
        batch_manhattan(optimizer, [next(iter(optimizer.param_groups[0]["params"])),
                                    nn.Parameter(torch.ones(2))])  # fmt: skip
