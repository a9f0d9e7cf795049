"""The rule is still there after compilation, export and tracing, and it costs no memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fxbio import ops
from tests.ops.cases import CASES, ONE_EACH, Case, find
from tests.ops.oracle import draw_for, gradients, inputs, normal, published, reference

one_each = pytest.mark.parametrize("case", ONE_EACH, ids=lambda case: case.name)
RULE = "frsf"  # reads the weight and a draw


class Layer(nn.Module):
    """One op with its weight, bias and feedback, as a module would hold them."""

    drawn: Tensor | None

    def __init__(self, case: Case) -> None:
        super().__init__()
        weight = normal(case.weight, seed=1, dtype=torch.float32)
        self.case = case
        self.weight = nn.Parameter(weight)
        self.bias = None
        if case.bias is not None:
            self.bias = nn.Parameter(normal(case.bias, seed=2, dtype=torch.float32))
        self.register_buffer("drawn", draw_for(RULE, weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.case.ours(x, self.weight, self.bias, self.drawn, RULE, 0.5)

    def gradients(self, run: Any, x: Tensor) -> list[Tensor | None]:
        """Those of the input and of the parameters, when ``run`` stands for the forward."""
        parameters = dict(run.named_parameters()) if isinstance(run, nn.Module) else {}
        own = [parameters.get("weight", self.weight), parameters.get("bias", self.bias)]
        return gradients(run(x), [x, *own])

    def expected(self, x: Tensor) -> list[Tensor | None]:
        matrix = published(RULE, self.weight, self.drawn)
        assert matrix is not None
        output = reference(self.case.stock, x, self.weight, self.bias, 0.5 * matrix)
        return gradients(output, [x, self.weight, self.bias])


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def agree(found: list[Tensor | None], expected: list[Tensor | None]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def example(case: Case, batch: int | None = None) -> Tensor:
    shape = case.x if batch is None else (batch, *case.x[1:])
    return normal(shape, dtype=torch.float32).requires_grad_()


@one_each
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_compiles_into_one_graph(case: Case, dynamic: bool) -> None:
    layer = Layer(case)
    compiled = torch.compile(layer.forward, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    x = example(case)
    agree(layer.gradients(compiled, x), layer.expected(x))


def test_one_dynamic_graph_serves_all_batch_sizes() -> None:
    case = find("conv2d-mixed")
    layer = Layer(case)
    compiled = torch.compile(layer.forward, fullgraph=True, backend="aot_eager", dynamic=True)
    layer.gradients(compiled, example(case, 2))
    with torch.compiler.set_stance("fail_on_recompile"):
        for batch in (3, 5):
            x = example(case, batch)
            agree(layer.gradients(compiled, x), layer.expected(x))


@one_each
def test_survives_export(case: Case) -> None:
    layer = Layer(case)
    exported = torch.export.export(layer, (example(case).detach(),)).module()
    x = example(case)
    agree(layer.gradients(exported, x), layer.expected(x))


@one_each
def test_survives_symbolic_tracing_dead_code_elimination_and_a_copy(case: Case) -> None:
    layer = Layer(case)
    traced = torch.fx.symbolic_trace(layer)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    x = example(case)
    agree(layer.gradients(copy.deepcopy(traced), x), layer.expected(x))


@one_each
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_passes_the_checks_of_torch_library(case: Case) -> None:
    layer, x = Layer(case), example(case)
    with Calls() as calls:
        layer(x)
    [(op, arguments)] = calls.seen
    fixed = [a.detach() if isinstance(a, Tensor) else a for a in arguments]
    torch.library.opcheck(op, tuple(fixed))
    known = {x.data_ptr(), *(p.data_ptr() for p in layer.parameters())}
    leaves = [
        a.clone().requires_grad_() if isinstance(a, Tensor) and a.data_ptr() in known else a
        for a in fixed
    ]
    torch.library.opcheck(op, tuple(leaves))


class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The calls of ops of fxbio."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "fxbio":
            self.seen.append((func, args))
        return func(*args, **(kwargs or {}))


def saved_by(run: Any) -> list[Tensor]:
    """What autograd keeps for the backward pass of ``run()``."""
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return saved


@one_each
def test_sign_feedback_keeps_nothing_beyond_input_and_weight(case: Case) -> None:
    x, weight, bias = inputs(*case.shapes)
    assert x is not None
    assert weight is not None
    saved = saved_by(lambda: case.ours(x, weight, bias, None, "usf", 0.5))
    known = {x.data_ptr(), weight.data_ptr(), *([bias.data_ptr()] if bias is not None else [])}
    assert {x.data_ptr(), weight.data_ptr()} <= {t.data_ptr() for t in saved}
    extra = sum(t.numel() for t in saved if t.data_ptr() not in known)
    # Normalisations keep their statistics, as those of torch do.
    statistics = 2 * max(x.numel() // x.shape[-1], 2 * x.shape[1]) if "norm" in case.name else 0
    assert extra <= statistics


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Number of float64 entries of the largest memory that any operation returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self.entries = max(self.entries, tensor.untyped_storage().nbytes() // 8)
        return result


@pytest.mark.parametrize("rule", ["bp", "usf", "fa", "stop"])
@pytest.mark.parametrize("weight_is_left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("leading", [(64,), (8, 8)], ids=str)
def test_matmul_makes_no_weight_for_every_batch_entry(
    leading: tuple[int, ...], weight_is_left: bool, rule: str
) -> None:
    x, weight = inputs((*leading, 6, 2) if weight_is_left else (*leading, 2, 6), (6, 6))
    assert x is not None
    assert weight is not None
    operands = (weight, x) if weight_is_left else (x, weight)
    y = ops.matmul(*operands, draw_for(rule, weight), rule, 0.5, weight_is_left)
    with Largest() as largest:
        y.backward(torch.ones_like(y))
    assert weight.grad is not None
    assert 0 < largest.entries <= max(x.numel(), weight.numel(), y.numel())


def test_linear_makes_no_weight_for_every_batch_entry() -> None:
    x, weight = inputs((64, 2, 6), (6, 6))
    assert x is not None
    assert weight is not None
    y = ops.linear(x, weight, None, None, "usf", 0.5)
    with Largest() as largest:
        y.backward(torch.ones_like(y))
    assert 0 < largest.entries <= x.numel()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_inplace_activation_may_follow(case: Case) -> None:
    layer = Layer(case)
    layer(normal(case.x, seed=0, dtype=torch.float32)).relu_().sum().backward()
    assert layer.weight.grad is not None
