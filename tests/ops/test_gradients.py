"""Values and gradients of every op under every rule, against torch and against the oracle."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from fxbio.ops.einsum import explicit_equation
from tests.ops.cases import CASES, ONE_EACH, Case, find
from tests.ops.oracle import RULES, SIGN_RULES, draw_for, gradients, inputs, published, reference

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
one_each = pytest.mark.parametrize("case", ONE_EACH, ids=lambda case: case.name)

# Sums in another order: one product over a folded batch where torch sums the products of its
# entries, and an einsum, whose gradients torch takes from the products it is made of.
ROUNDED_OTHERWISE = {"matmul-broadcast-one", "einsum-heads"}


def run(case: Case, tensors: list[Tensor | None], rule: str, scale: float = 1.0) -> Tensor:
    """The op under a rule, with the draw of that rule."""
    x, weight, bias = tensors
    assert x is not None
    assert weight is not None
    return case.ours(x, weight, bias, draw_for(rule, weight), rule, scale)


def oracle(case: Case, tensors: list[Tensor | None], rule: str, scale: float) -> Tensor:
    """The same by plain autograd."""
    x, weight, bias = tensors
    assert x is not None
    assert weight is not None
    matrix = published(rule, weight, draw_for(rule, weight))
    return reference(case.stock, x, weight, bias, None if matrix is None else matrix * scale)


@every_case
@pytest.mark.parametrize("rule", RULES)
def test_rule_agrees_with_the_oracle(case: Case, rule: str) -> None:
    tensors = inputs(*case.shapes)
    expected = gradients(oracle(case, tensors, rule, 0.37), tensors)
    found = gradients(run(case, tensors, rule, 0.37), tensors)
    assert (found[0] is None) == (rule == "stop")
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_forward_is_bitwise_that_of_torch(case: Case, dtype: torch.dtype) -> None:
    tensors = inputs(*case.shapes, dtype=dtype)
    expected = case.stock(*tensors)  # type: ignore[arg-type]
    for rule in ("bp", "fa", "stop"):
        found = run(case, tensors, rule, 0.37)
        assert torch.equal(found, expected)
        assert found.dtype == dtype
        assert found.stride() == expected.stride()


@every_case
def test_backprop_gradients_are_bitwise_those_of_autograd(case: Case) -> None:
    tensors = inputs(*case.shapes, dtype=torch.float32)
    expected = gradients(case.stock(*tensors), tensors)  # type: ignore[arg-type]
    found = gradients(run(case, tensors, "bp"), tensors)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is None:
            continue
        if case.name in ROUNDED_OTHERWISE:
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(mine, theirs)  # type: ignore[arg-type]


@one_each
@pytest.mark.parametrize("rule", ["bp", "usf", "fa", "stop"])
def test_gradients_come_for_what_needs_them_and_for_nothing_else(case: Case, rule: str) -> None:
    tensors = inputs(*case.shapes)
    full = gradients(run(case, tensors, rule), tensors)
    for needs in itertools.product((True, False), repeat=3):
        tensors = inputs(*case.shapes)
        for tensor, needed in zip(tensors, needs, strict=True):
            if tensor is not None:
                tensor.requires_grad_(needed)
        found = gradients(run(case, tensors, rule), tensors)
        for mine, whole, tensor in zip(found, full, tensors, strict=True):
            if tensor is None or not tensor.requires_grad or whole is None:
                assert mine is None
            else:
                # The last digit is that of the kernel, which BLAS chooses by what else is computed.
                torch.testing.assert_close(mine, whole, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    "case", [c for c in ONE_EACH if not c.name.startswith("addmm")], ids=lambda case: case.name
)
def test_bias_may_be_missing(case: Case) -> None:
    x, weight, _ = inputs(*case.shapes)
    expected = gradients(oracle(case, [x, weight, None], "usf", 1.0), [x, weight])
    found = gradients(run(case, [x, weight, None], "usf"), [x, weight])
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def with_rows(name: str, rows: int) -> Case:
    """The case with a small or a large input."""
    case = find(name)
    sizes = (case.x[0], rows) if name == "matmul-left" else (rows, *case.x[1:])
    return dataclasses.replace(case, x=sizes)


@pytest.mark.parametrize("rule", ["bp", "usf", "fa", "frozen"])
@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize(
    "name",
    ["linear-2d", "conv2d-plain", "matmul-2d", "matmul-left", "addmm-2d", "einsum-heads"],
)
def test_scale_is_applied_once_whichever_operand_is_smaller(
    name: str, rows: int, rule: str
) -> None:
    case = with_rows(name, rows)
    tensors = inputs(*case.shapes)
    whole = gradients(run(case, tensors, rule, 1.0), tensors)
    scaled = gradients(run(case, tensors, rule, 0.25), tensors)
    assert whole[0] is not None
    assert torch.equal(scaled[0], 0.25 * whole[0])  # type: ignore[arg-type]  # a power of two
    assert torch.equal(scaled[1], whole[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", [*SIGN_RULES, "bp", "fa"])
@pytest.mark.parametrize(
    ("name", "input_channel", "weight_axis"),
    [
        ("linear-3d", -1, 1),
        ("conv2d-plain", 1, 1),
        ("conv_transpose2d-plain", 1, 0),
        ("matmul-3d", -1, 0),
        ("matmul-left-3d", -2, 1),
        ("addmm-2d", -1, 0),
        ("batch_norm-4d-training", 1, 0),
    ],
)
def test_weights_that_are_zero_get_no_feedback_from_signs(
    name: str, input_channel: int, weight_axis: int, rule: str
) -> None:
    case = find(name)
    tensors = inputs(*case.shapes)
    weight = tensors[1]
    assert weight is not None
    with torch.no_grad():
        weight.select(weight_axis, 0).zero_()
    grad_x = gradients(run(case, tensors, rule), tensors)[0]
    assert grad_x is not None
    assert bool(grad_x.select(input_channel, 0).any()) == (rule == "fa")
    assert grad_x.select(input_channel, 1).any()


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("bi,oi->bo", ("bi", "oi", "bo")),
        (" zi , ia ", ("zi", "ia", "az")),
        ("i,i->", ("i", "i", "")),
        ("...i,oi->...o", None),
        ("ii,io->o", None),  # a diagonal
        ("bij,io->bo", None),  # j is summed within one operand
        ("bi,io,oz->bz", None),
        ("bi->b", None),
        ("bi,i->bi", None),  # no sum: autocast leaves it alone, unlike a product of matrices
        ("i,j->ij", None),
    ],
)
def test_einsum_serves_equations_whose_gradients_are_einsums(
    equation: str, expected: tuple[str, str, str] | None
) -> None:
    assert explicit_equation(equation) == expected
