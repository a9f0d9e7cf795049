"""What a batch normalisation does besides its gradients: running statistics and refusals."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxbio import ops
from tests.ops.oracle import normal


class BatchNorm(nn.BatchNorm2d):
    """A batch norm whose forward calls the op under sign feedback."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training, 0.3, self.eps, None, "usf", 0.5,
        )  # fmt: skip


def layer(training: bool = True) -> BatchNorm:
    module = BatchNorm(4).train(training)
    with torch.no_grad():
        module.weight.copy_(normal((4,), dtype=torch.float32))
    module.running_mean = normal((4,), seed=1, dtype=torch.float32)
    module.running_var = normal((4,), seed=2, dtype=torch.float32).square() + 0.5
    return module


def image(batch: int = 3) -> Tensor:
    return normal((batch, 4, 5, 2), seed=3, dtype=torch.float32).requires_grad_()


def statistics(module: nn.Module) -> tuple[Tensor, Tensor]:
    buffers = dict(module.named_buffers())
    return buffers["running_mean"], buffers["running_var"]


def same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def stock_step(module: BatchNorm) -> tuple[Tensor, Tensor]:
    mean, var = (s.clone() for s in statistics(module))
    F.batch_norm(image(), mean, var, module.weight, module.bias, True, 0.3, module.eps)
    return mean, var


@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_running_statistics_move_as_in_torch(momentum: float, dtype: torch.dtype) -> None:
    x, weight = normal((3, 4, 5), dtype=dtype), normal((4,), seed=1, dtype=dtype)
    ours = torch.zeros(4, dtype=dtype), torch.ones(4, dtype=dtype)
    theirs = copy.deepcopy(ours)
    for _ in range(2):
        F.batch_norm(x, *theirs, weight, None, True, momentum, 1e-3)
        ops.batch_norm(x, *ours, weight, None, True, momentum, 1e-3, None, "usf", 1.0)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert bool(ours[0].any()) == (momentum > 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_so_do_those_of_an_instance_norm(dtype: torch.dtype) -> None:
    x, weight = normal((3, 4, 5), dtype=dtype), normal((4,), seed=1, dtype=dtype)
    ours = torch.zeros(4, dtype=dtype), torch.ones(4, dtype=dtype)
    theirs = copy.deepcopy(ours)
    for _ in range(2):
        F.instance_norm(x, *theirs, weight, None, True, 0.1, 1e-3)
        ops.instance_norm(x, *ours, weight, None, True, 0.1, 1e-3, None, "usf", 1.0)
    assert same(ours, theirs)
    assert bool(ours[0].any())


def test_evaluation_leaves_the_running_statistics_alone() -> None:
    module = layer(training=False)
    before = copy.deepcopy(statistics(module))
    module(image()).sum().backward()
    assert same(statistics(module), before)


def test_evaluation_may_run_twice_before_the_backward_pass() -> None:
    module, x = layer(training=False), image()
    once = torch.autograd.grad(module(x).square().sum(), x)[0]
    twice = torch.autograd.grad(module(x).square().sum() + module(x).square().sum(), x)[0]
    torch.testing.assert_close(twice, 2 * once)


def test_training_between_evaluation_and_its_backward_pass_changes_nothing() -> None:
    module, x = layer(training=False), image()
    expected = torch.autograd.grad(module(x).square().sum(), x)[0]
    loss = module(x).square().sum()
    module.train()(image(2))
    assert torch.equal(torch.autograd.grad(loss, x)[0], expected)


def test_running_statistics_move_in_a_compiled_graph() -> None:
    module = layer()
    expected = stock_step(module)
    torch.compile(module, fullgraph=True, backend="aot_eager")(image())
    assert same(statistics(module), expected)
    torch._dynamo.reset()


def test_running_statistics_move_in_an_exported_graph() -> None:
    module = layer()
    expected = stock_step(module)
    exported = torch.export.export(module, (image().detach(),)).module()
    exported(image())
    assert same(statistics(exported), expected)


def test_running_statistics_move_in_a_traced_graph_without_dead_code() -> None:
    module = layer()
    expected = stock_step(module)
    traced = torch.fx.symbolic_trace(module)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    traced(image())
    assert same(statistics(traced), expected)


def test_one_value_per_channel_is_refused_in_training_as_in_torch() -> None:
    x, weight = torch.ones(1, 4), torch.ones(4)
    with pytest.raises(ValueError, match="more than one value per channel"):
        ops.batch_norm(x, None, None, weight, None, True, 0.1, 1e-5, None, "usf", 1.0)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        F.batch_norm(x, None, None, weight, None, True)
    with pytest.raises(ValueError, match="more than one value"):
        ops.group_norm(x, 4, weight, None, 1e-5, None, "usf", 1.0)
    with pytest.raises(ValueError, match="more than 1 value"):
        F.group_norm(x, 4, weight)
