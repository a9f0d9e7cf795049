"""The gradient of a learned feedback weight, of every op: the weight's, or zero."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from tests.ops.cases import CASES, ONE_EACH, Case
from tests.ops.oracle import gradients, inputs, normal, reference

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
one_each = pytest.mark.parametrize("case", ONE_EACH, ids=lambda case: case.name)


def operands(case: Case, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor | None], Tensor]:
    feedback = normal(case.weight, seed=5, dtype=dtype).requires_grad_()
    return inputs(*case.shapes, dtype=dtype), feedback


def found(
    case: Case, rule: str, tensors: list[Tensor | None], feedback: Tensor
) -> list[Tensor | None]:
    x, weight, bias = tensors
    assert x is not None
    assert weight is not None
    return gradients(case.ours(x, weight, bias, feedback, rule, 1.0), [*tensors, feedback])


@every_case
def test_a_tied_feedback_gets_the_gradient_of_the_weight(case: Case) -> None:
    tensors, feedback = operands(case)
    x, weight, bias = tensors
    assert x is not None
    assert weight is not None
    output = reference(case.stock, x, weight, bias, feedback.detach())
    wanted = gradients(output, tensors)
    mine = found(case, "kp", tensors, feedback)
    torch.testing.assert_close(mine, [*wanted, wanted[1]], rtol=1e-11, atol=1e-12)
    assert torch.equal(mine[1], mine[3])  # type: ignore[arg-type]


@every_case
def test_another_feedback_gets_zeros(case: Case) -> None:
    tensors, feedback = operands(case)
    mine = found(case, "sa", tensors, feedback)[3]
    assert mine is not None
    assert mine.shape == feedback.shape
    assert not mine.any()


@one_each
@pytest.mark.parametrize("rule", ["kp", "sa"])
def test_gradients_come_for_what_needs_them_and_for_nothing_else(case: Case, rule: str) -> None:
    tensors, feedback = operands(case)
    whole = found(case, rule, tensors, feedback)
    for needs in itertools.product((True, False), repeat=4):
        tensors, feedback = operands(case)
        for tensor, needed in zip([*tensors, feedback], needs, strict=True):
            if tensor is not None:
                tensor.requires_grad_(needed)
        mine = found(case, rule, tensors, feedback)
        for one, other, tensor in zip(mine, whole, [*tensors, feedback], strict=True):
            if tensor is None or not tensor.requires_grad or other is None:
                assert one is None
            else:
                # The last digit is that of the kernel, which BLAS chooses by what else is computed.
                torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-15)


@one_each
def test_weight_and_feedback_do_not_share_a_gradient(case: Case) -> None:
    tensors, feedback = operands(case)
    x, weight, bias = tensors
    assert x is not None
    assert weight is not None
    output = case.ours(x, weight, bias, feedback, "kp", 1.0).sum()
    one, other = torch.autograd.grad(output, [weight, feedback])
    before = one.clone()
    other.zero_()
    assert torch.equal(one, before)


@one_each
def test_in_bfloat16_the_gradient_has_the_dtype_of_the_feedback(case: Case) -> None:
    tensors, _ = operands(case, torch.bfloat16)
    feedback = normal(case.weight, seed=5, dtype=torch.float32).requires_grad_()
    mine = found(case, "kp", tensors, feedback)
    assert mine[1] is not None
    assert mine[3] is not None
    assert mine[3].dtype == torch.float32
    assert torch.equal(mine[3], mine[1].float())
