"""The shapes of norms without values are those of the norms with values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxbio.graph.fake_norms import norm_outputs
from fxbio.graph.fake_run import run_fake
from fxbio.graph.state_guard import Snapshot
from fxbio.models.inputs import as_example_inputs

BATCH, LAYER = torch.ops.aten.native_batch_norm.default, torch.ops.aten.native_layer_norm.default
PLAIN = torch.randn(2, 8, 5, 3)
INPUTS = {
    "contiguous": PLAIN,
    "channels last": PLAIN.to(memory_format=torch.channels_last),
    "permuted": PLAIN.permute(0, 2, 3, 1),
    "transposed": PLAIN.transpose(1, 2),
    "sliced": PLAIN[:, :, 1:],
    "expanded": PLAIN[:, :, :1].expand(2, 8, 5, 3),
    "three dimensions": torch.randn(2, 8, 5),
    "float64": PLAIN.double(),
    "bfloat16": PLAIN.bfloat16(),
}


def arguments(func: Any, x: Tensor, training: bool) -> tuple[Any, ...]:
    if func is LAYER:
        shape = list(x.shape[-2:])
        return x, shape, torch.ones(shape, dtype=x.dtype), None, 1e-5
    mean, deviation = (torch.ones(x.shape[1], dtype=x.dtype) for _ in range(2))
    return x, None, mean.clone(), mean, deviation, training, 0.1, 1e-5


def layout(outputs: Any) -> list[Any]:
    first, *statistics = outputs
    return [(first.shape, first.stride(), first.dtype), *(each.shape for each in statistics)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("func", [BATCH, LAYER], ids=["batch", "layer"])
@pytest.mark.parametrize("x", INPUTS.values(), ids=INPUTS)
def test_the_layout_is_that_of_the_real_outputs(func: Any, x: Tensor, training: bool) -> None:
    args = arguments(func, x, training)
    assert norm_outputs(func, args) is not None
    found = run_fake(
        Snapshot(nn.Identity(), x),
        as_example_inputs(x),
        lambda args, _: layout(func(*args, *arguments(func, x, training)[1:])),
    )
    assert found is not None
    assert found[0] == layout(func(*args))


@pytest.mark.parametrize(
    ("func", "args"),
    [
        (BATCH, (PLAIN, torch.ones(5), None, None, None, True, 0.1, 1e-5)),
        (BATCH, (PLAIN, None, None, torch.ones(2), torch.ones(8), False, 0.1, 1e-5)),
        (LAYER, (PLAIN, [3], torch.ones(5), None, 1e-5)),
        (LAYER, (PLAIN, [5], None, None, 1e-5)),
        (torch.ops.aten.relu.default, (PLAIN,)),
    ],
)
def test_whatever_does_not_fit_is_left_to_torch(func: Any, args: Any) -> None:
    assert norm_outputs(func, args) is None
