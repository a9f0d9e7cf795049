"""What cannot be fails loudly. ``docs/limits.md`` lists the same for users."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fxbio
from fxbio.errors import ModelError, UnreachableWeightError
from tests.battery.cases import CASES
from tests.battery.harness import loss_of, policy_of, subject
from tests.battery.limits import LIMITS
from tests.battery.rules import RULES
from tests.battery.survivals import SURVIVALS

both = pytest.mark.parametrize("name", ["conv2d", "functional-linear"])


def test_the_table_names_what_exists() -> None:
    for limit in LIMITS:
        assert limit.survivals <= set(SURVIVALS)
        assert limit.cases <= set(CASES)


@both
def test_a_rewritten_module_is_no_root_of_a_trace(name: str) -> None:
    model = subject("fa", name).transformed()
    with pytest.raises(UnreachableWeightError, match=r"cannot re-trace .* without losing its rule"):
        torch.fx.symbolic_trace(model.body)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about its exporter
@pytest.mark.parametrize("name", ["conv2d", "linear-3d"])
@pytest.mark.parametrize("grad", [True, False])
def test_onnx_is_told_the_way(name: str, grad: bool, tmp_path: Path) -> None:
    combination = subject("fa", name)
    model, x = combination.transformed(), combination.case.example()
    told = pytest.raises(ModelError, match=r"fxbio\.revert\(copy\.deepcopy\(model\)\)")
    with told, torch.set_grad_enabled(grad):
        torch.onnx.export(model, (x,), str(tmp_path / "net.onnx"), dynamo=False)
    assert not list(tmp_path.iterdir())


@both
def test_functional_gradients_are_refused(name: str) -> None:
    combination = subject("fa", name)
    model, x = combination.transformed(), combination.case.example()
    parameters = {key: p.detach() for key, p in model.named_parameters()}

    def loss(values: dict[str, Tensor]) -> Tensor:
        return loss_of(torch.func.functional_call(model, values, (x,)))

    with pytest.raises(RuntimeError, match=r"autograd\.Function with functorch transforms"):
        torch.func.grad(loss)(parameters)


@both
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch itself uses it
def test_forward_mode_derivatives_are_refused(name: str) -> None:
    combination = subject("fa", name)
    model, x = combination.transformed(), combination.case.example()
    with pytest.raises(NotImplementedError, match="forward-mode derivatives"):
        torch.func.jvp(model, (x,), (x,))
    with (
        torch.autograd.forward_ad.dual_level(),
        pytest.raises(NotImplementedError, match="forward-mode derivatives"),
    ):
        model(torch.autograd.forward_ad.make_dual(x, x))


@both
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
def test_torchscript_cannot_compile_it(name: str) -> None:
    with pytest.raises(ValueError, match="Unknown type annotation"):
        torch.jit.script(subject("fa", name).transformed())


@pytest.mark.parametrize("case", [n for n, c in CASES.items() if c.computed])
@pytest.mark.parametrize("rule", [n for n, line in RULES.items() if line.reads_weight])
def test_a_weight_that_is_not_there_yet_cannot_be_read(rule: str, case: str) -> None:
    with pytest.raises(UnreachableWeightError, match="computed inside the forward"):
        fxbio.transform(CASES[case].build(), policy_of(rule), (CASES[case].example(2),))


class CheckpointedFunction(nn.Module):
    """Checkpoints a function that applies the module's own weight."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        def project(x: Tensor) -> Tensor:
            return F.linear(x, self.matrix)

        result: Tensor = checkpoint(project, x, use_reentrant=False)
        return result


class OwnBackward(torch.autograd.Function):
    """A user's own product with a weight."""

    @staticmethod
    def forward(ctx: object, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.T

    @staticmethod
    def backward(ctx: object, error: Tensor) -> tuple[None, None]:
        return None, None


class OpaqueFunction(CheckpointedFunction):
    """Applies its weight inside an ``autograd.Function``."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = OwnBackward.apply(x, self.matrix)
        return result


@pytest.mark.parametrize(
    ("model", "shape", "reason"),
    [
        (CheckpointedFunction(), (2, 4), "checkpointing recomputes this use outside"),
        (OpaqueFunction(), (2, 4), "brings its own backward"),
        (nn.Sequential(nn.LSTM(4, 3)), (2, 5, 4), "inside one fused kernel"),
    ],
    ids=["checkpointed-function", "autograd-function", "lstm"],
)
def test_a_weight_out_of_reach_is_named(
    model: nn.Module, shape: tuple[int, ...], reason: str
) -> None:
    x = torch.randn(shape)
    listed = fxbio.plan(model, policy_of("fa"), (x,))
    assert reason in str(listed)
    assert not listed.rewritten()
    asking = fxbio.Policy.uniform("bp").append(where="**", rule="fa")
    with pytest.raises(UnreachableWeightError, match=reason):
        fxbio.transform(model, asking, (x,))


def test_wrapped_and_compiled_models_are_refused() -> None:
    stock = CASES["conv2d"].build()
    with pytest.raises(ModelError, match="compile"):
        fxbio.transform(torch.compile(stock), policy_of("fa"), (CASES["conv2d"].example(),))
