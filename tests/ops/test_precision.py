"""Dtypes, autocast and memory formats, against what torch does without a rule."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.ops.cases import CASES, ONE_EACH, Case, find
from tests.ops.oracle import draw_for, gradients, inputs, published, reference

one_each = pytest.mark.parametrize("case", ONE_EACH, ids=lambda case: case.name)
half = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
NORMS = ("batch_norm", "layer_norm", "group_norm")


def run(case: Case, tensors: list[Tensor | None], rule: str) -> Tensor:
    x, weight, bias = tensors
    assert x is not None
    assert weight is not None
    return case.ours(x, weight, bias, draw_for(rule, weight), rule, 1.0)


def same(found: list[Tensor | None], expected: list[Tensor | None]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert mine.dtype == theirs.dtype
            assert torch.equal(mine, theirs)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch, of rms_norm
@one_each
@half
@pytest.mark.parametrize("x_dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_autocast_gives_the_dtypes_and_values_of_torch(
    case: Case, dtype: torch.dtype, x_dtype: torch.dtype
) -> None:
    tensors = inputs(*case.shapes, dtype=torch.float32)
    assert tensors[0] is not None
    tensors[0] = tensors[0].detach().to(x_dtype).requires_grad_()
    with torch.autocast("cpu", dtype):
        try:
            expected = case.stock(*tensors)  # type: ignore[arg-type]
        except RuntimeError:  # torch does not mix double with these
            with pytest.raises(RuntimeError, match="type"):
                run(case, tensors, "bp")
            return
        found = run(case, tensors, "bp")
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    same(gradients(found, tensors), gradients(expected, tensors))


@pytest.mark.parametrize("name", [c.name for c in CASES if c.name.startswith("einsum")])
def test_autocast_casts_every_einsum_as_torch_does(name: str) -> None:
    case = find(name)
    tensors = inputs(*case.shapes, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        expected = case.stock(*tensors)  # type: ignore[arg-type]
        same([run(case, tensors, "bp")], [expected])


@one_each
@half
def test_rule_holds_under_autocast(case: Case, dtype: torch.dtype) -> None:
    tensors = inputs(*case.shapes, dtype=torch.float32)
    weight = tensors[1]
    assert weight is not None
    matrix = published("frsf", weight, draw_for("frsf", weight))
    expected = gradients(reference(case.stock, *tensors, matrix), tensors)  # type: ignore[call-arg,arg-type]
    with torch.autocast("cpu", dtype):
        output = run(case, tensors, "frsf")
    for mine, theirs in zip(gradients(output, tensors), expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert mine.dtype == torch.float32
            assert torch.linalg.norm(mine - theirs) < 0.03 * torch.linalg.norm(theirs)


@one_each
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("drawn_dtype", [torch.float32, None], ids=["float32-draw", "own-draw"])
def test_gradients_have_the_dtype_of_what_they_belong_to(
    case: Case, dtype: torch.dtype, drawn_dtype: torch.dtype | None
) -> None:
    tensors = inputs(*case.shapes, dtype=dtype)
    x, weight, bias = tensors
    assert x is not None
    assert weight is not None
    drawn = draw_for("fa", weight)
    assert drawn is not None
    output = case.ours(x, weight, bias, drawn.to(drawn_dtype or dtype), "fa", 0.5)
    assert output.dtype == dtype
    found = gradients(output, tensors)
    assert [g is None or g.dtype == dtype for g in found] == [True] * 3


@pytest.mark.parametrize(
    "name",
    [
        "batch_norm-4d-training",
        "batch_norm-4d-evaluation",
        "layer_norm-last",
        "group_norm-4d",
        "instance_norm-4d-tracked",
    ],
)
def test_norms_mix_half_inputs_with_float_weights_as_torch_does(name: str) -> None:
    case = find(name)
    _, weight, bias = inputs(*case.shapes, dtype=torch.float32)
    [x] = inputs(case.x, dtype=torch.bfloat16)
    tensors = [x, weight, bias]
    expected = case.stock(*tensors)  # type: ignore[arg-type]
    found = run(case, tensors, "bp")
    same([found], [expected])
    same(gradients(found, tensors), gradients(expected, tensors))


FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
SPATIAL = [
    "conv2d-plain",
    "conv2d-mixed",
    "conv2d-depthwise",
    "conv3d-groups",
    "conv_transpose2d-mixed",
    "conv_transpose3d-plain",
    "batch_norm-4d-training",
    "batch_norm-4d-evaluation",
    "batch_norm-5d-training-untracked",
    "group_norm-4d",
]


@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("rule", ["bp", "usf", "fa", "stop"])
@pytest.mark.parametrize("weight_too", [False, True], ids=["input", "input-and-weight"])
def test_memory_formats_are_those_of_torch(name: str, rule: str, weight_too: bool) -> None:
    case = find(name)
    tensors = inputs(*case.shapes, dtype=torch.float32)
    for position in range(1 + weight_too):
        tensor = tensors[position]
        assert tensor is not None
        if tensor.dim() in FORMATS:
            like = tensor.detach().contiguous(memory_format=FORMATS[tensor.dim()])
            tensors[position] = like.requires_grad_()
    expected, found = case.stock(*tensors), run(case, tensors, rule)  # type: ignore[arg-type]
    assert found.stride() == expected.stride()
    theirs, mine = gradients(expected, tensors), gradients(found, tensors)
    assert (mine[0] is None) == (rule == "stop")
    for gradient, stock in zip(mine, theirs, strict=True):
        if gradient is not None and stock is not None:
            assert gradient.stride() == stock.stride()


@pytest.mark.parametrize("device", ["AutocastCPU", "AutocastCUDA", "AutocastXPU"])
@pytest.mark.parametrize(
    ("op", "of_torch"),
    [
        ("linear", "linear"),
        ("convolution", "conv2d"),
        ("matmul", "matmul"),
        ("addmm", "addmm"),
        ("batch_norm", "batch_norm"),
        ("layer_norm", "layer_norm"),
        ("group_norm", "group_norm"),
        ("rms_norm", "rms_norm"),
        ("embedding", "embedding"),
    ],
)
def test_autocast_rules_exist_on_the_devices_where_torch_has_them(
    op: str, of_torch: str, device: str
) -> None:
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    assert has(f"fxbio::{op}", device) == has(f"aten::{of_torch}", device)
