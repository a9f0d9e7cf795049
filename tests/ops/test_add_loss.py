"""``add_loss``: the value stays, the error passes, and the loss is trained with weight one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fxbio.ops import add_loss


class Layer(nn.Module):
    """``3 x + b`` with the local loss ``Σ (b − x)²``."""

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.tensor([1.0, -2.0]))

    def forward(self, x: Tensor) -> Tensor:
        loss = (self.b - x.detach()).square().sum()
        result: Tensor = add_loss(3 * x + self.b.detach(), loss)
        return result


def compiled(layer: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    torch._dynamo.reset()
    run: Callable[[Tensor], Tensor] = torch.compile(layer, fullgraph=True, backend="aot_eager")
    return run


RUNS: dict[str, Callable[[nn.Module, Tensor], Callable[[Tensor], Tensor]]] = {
    "eager": lambda layer, x: layer,
    "export": lambda layer, x: torch.export.export(layer, (x,)).module(),
    "aot_eager": compiled,
}


@pytest.mark.parametrize("factor", [1.0, 0.25])
@pytest.mark.parametrize("kind", RUNS)
def test_the_loss_is_trained_whatever_the_error(kind: str, factor: float) -> None:
    layer, x = Layer(), torch.tensor([[0.5, 0.25], [2.0, 4.0]], requires_grad=True)
    run = RUNS[kind](layer, x)
    y = run(x)
    assert torch.equal(y, 3 * x + layer.b)
    (factor * y.sum()).backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full_like(x, 3 * factor))
    trained = dict(run.named_parameters())["b"] if kind == "export" else layer.b  # type: ignore[attr-defined]
    wanted = (2 * (layer.b - x)).sum(0)
    torch.testing.assert_close(trained.grad, wanted.detach())


def test_nothing_happens_where_no_error_arrives() -> None:
    layer, x = Layer(), torch.ones(1, 2, requires_grad=True)
    layer(x)
    (2 * x).sum().backward()
    assert layer.b.grad is None


def test_the_result_may_be_changed_in_place() -> None:
    layer, x = Layer(), torch.ones(1, 2, requires_grad=True)
    layer(x).relu_().sum().backward()
    assert layer.b.grad is not None


def test_the_layout_is_kept() -> None:
    y = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert add_loss(y, torch.tensor(1.0)).is_contiguous(memory_format=torch.channels_last)
