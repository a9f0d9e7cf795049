"""Every op at many shapes: how to call it, and the function of torch that it stands for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fxbio import ops

__all__ = ["CASES", "ONE_EACH", "Case", "find"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One operation at one shape."""

    name: str
    x: Shape
    weight: Shape
    bias: Shape | None
    stock: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    """``stock(x, weight, bias)`` of torch."""
    ours: Callable[[Tensor, Tensor, Tensor | None, Tensor | None, str, float], Tensor]
    """``ours(x, weight, bias, feedback, rule, scale)``."""

    @property
    def shapes(self) -> tuple[Shape, Shape, Shape | None]:
        return self.x, self.weight, self.bias


def _linear_cases() -> Iterator[Case]:
    for leading in ((), (5,), (2, 3), (2, 3, 4), (0,)):
        for bias in ((6,), None):
            name = (
                f"linear-{len(leading) + 1}d{'' if bias else '-nobias'}{'-empty' * (0 in leading)}"
            )
            yield Case(name, (*leading, 8), (6, 8), bias, F.linear, ops.linear)


_GEOMETRIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "stride": {"stride": (2, 1, 3), "padding": (1, 0, 2)},
    "dilation": {"dilation": (2, 1, 2), "padding": (2, 1, 0)},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4},
    "mixed": {"stride": (2, 3, 1), "padding": (1, 1, 0), "dilation": (1, 2, 1), "groups": 2},
    "output-padding": {"stride": (2, 3, 2), "output_padding": (1, 2, 0), "groups": 2},
}


def _convolution_cases() -> Iterator[Case]:
    for dims in (1, 2, 3):
        for transposed in (False, True):
            for name, options in _GEOMETRIES.items():
                if transposed or "output_padding" not in options:
                    yield _convolution(name, dims, transposed, **options)
    yield _convolution("empty", 2, False, batch=0)


def _convolution(
    name: str,
    dims: int,
    transposed: bool,
    stride: Shape = (1, 1, 1),
    padding: Shape = (0, 0, 0),
    dilation: Shape = (1, 1, 1),
    output_padding: Shape = (0, 0, 0),
    groups: int = 1,
    batch: int = 2,
) -> Case:
    c_in, c_out = 4, 8
    kernel, size = (3, 2, 1)[:dims], (7, 6, 5)[:dims]
    spread = [list(v[:dims]) for v in (stride, padding, dilation, output_padding)]
    stride_, padding_, dilation_, output_padding_ = spread
    options: dict[str, Any] = dict(
        stride=stride_, padding=padding_, dilation=dilation_, groups=groups
    )
    if transposed:
        options["output_padding"] = output_padding_
    rest = (stride_, padding_, dilation_, transposed, output_padding_, groups)
    kind = f"conv{'_transpose' * transposed}{dims}d"
    weight = (c_in, c_out // groups) if transposed else (c_out, c_in // groups)
    return Case(
        f"{kind}-{name}",
        (batch, c_in, *size),
        (*weight, *kernel),
        (c_out,) if name != "groups" else None,
        functools.partial(getattr(F, kind), **options),
        lambda x, w, b, feedback, rule, scale: ops.convolution(
            x, w, b, feedback, rule, scale, *rest
        ),
    )


_MATMUL_SHAPES: tuple[tuple[str, Shape, Shape, bool], ...] = (
    ("2d", (5, 4), (4, 3), False),
    ("vector", (4,), (4, 3), False),
    ("3d", (2, 5, 4), (4, 3), False),
    ("4d", (2, 3, 5, 4), (4, 3), False),
    ("batched", (2, 5, 4), (2, 4, 3), False),
    ("broadcast", (2, 1, 5, 4), (3, 4, 6), False),
    ("broadcast-x", (5, 4), (2, 4, 3), False),
    ("broadcast-one", (2, 5, 4), (1, 4, 3), False),
    ("weight-vector", (2, 5, 4), (4,), False),
    ("dot", (4,), (4,), False),
    ("left", (4, 5), (3, 4), True),
    ("left-vector", (4,), (3, 4), True),
    ("left-3d", (2, 4, 5), (3, 4), True),
    ("left-4d", (2, 3, 4, 5), (6, 4), True),
    ("left-batched", (2, 4, 5), (2, 3, 4), True),
    ("left-broadcast", (3, 4, 5), (2, 1, 6, 4), True),
    ("left-weight-vector", (2, 4, 5), (4,), True),
)


def _matmul(name: str, x: Shape, weight: Shape, left: bool) -> Case:
    def pair(a: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return (w, a) if left else (a, w)

    return Case(
        f"matmul-{name}",
        x,
        weight,
        None,
        lambda a, w, b: torch.matmul(*pair(a, w)),
        lambda a, w, b, feedback, rule, scale: ops.matmul(*pair(a, w), feedback, rule, scale, left),
    )


def _addmm(name: str, x: Shape, weight: Shape, bias: Shape, beta: float, alpha: float) -> Case:
    function: Callable[..., Tensor] = torch.addmm if len(weight) == 2 else torch.baddbmm
    return Case(
        f"addmm-{name}",
        x,
        weight,
        bias,
        lambda a, w, b: function(b, a, w, beta=beta, alpha=alpha),
        lambda a, w, b, feedback, rule, scale: ops.addmm(
            b, a, w, feedback, rule, scale, beta, alpha
        ),
    )


def _einsum(name: str, x: Shape, weight: Shape, equation: str, weight_at: int = 1) -> Case:
    def pair(a: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return (w, a) if weight_at == 0 else (a, w)

    return Case(
        f"einsum-{name}",
        x,
        weight,
        None,
        lambda a, w, b: torch.einsum(equation, *pair(a, w)),
        lambda a, w, b, feedback, rule, scale: ops.einsum(
            a, w, feedback, rule, scale, equation, weight_at
        ),
    )


def _batch_norm(name: str, x: Shape, training: bool, tracked: bool = True) -> Case:
    def statistics(like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if not tracked:
            return None, None
        mean = torch.linspace(-1, 1, x[1], dtype=like.dtype)
        return mean, mean.square() + 0.5

    return Case(
        f"batch_norm-{name}",
        x,
        (x[1],),
        (x[1],),
        lambda a, w, b: F.batch_norm(a, *statistics(w), w, b, training, 0.1, 1e-5),
        lambda a, w, b, feedback, rule, scale: ops.batch_norm(
            a, *statistics(w), w, b, training, 0.1, 1e-5, feedback, rule, scale
        ),
    )


def _layer_norm(name: str, x: Shape, normalized: Shape, bias: bool = True) -> Case:
    shape = list(normalized)
    return Case(
        f"layer_norm-{name}",
        x,
        normalized,
        normalized if bias else None,
        lambda a, w, b: F.layer_norm(a, shape, w, b, 1e-5),
        lambda a, w, b, feedback, rule, scale: ops.layer_norm(
            a, shape, w, b, 1e-5, feedback, rule, scale
        ),
    )


def _rms_norm(name: str, x: Shape, normalized: Shape, eps: float | None = 1e-5) -> Case:
    shape = list(normalized)
    return Case(
        f"rms_norm-{name}",
        x,
        normalized,
        None,
        lambda a, w, b: F.rms_norm(a, shape, w, eps),
        lambda a, w, b, feedback, rule, scale: ops.rms_norm(
            a, shape, w, eps, feedback, rule, scale
        ),
    )


def _instance_norm(name: str, x: Shape, use_input_stats: bool, tracked: bool = True) -> Case:
    def statistics(like: Tensor) -> tuple[Tensor | None, Tensor | None]:
        if not tracked:
            return None, None
        mean = torch.linspace(-1, 1, x[1], dtype=like.dtype)
        return mean, mean.square() + 0.5

    return Case(
        f"instance_norm-{name}",
        x,
        (x[1],),
        (x[1],),
        lambda a, w, b: F.instance_norm(a, *statistics(w), w, b, use_input_stats, 0.1, 1e-5),
        lambda a, w, b, feedback, rule, scale: ops.instance_norm(
            a, *statistics(w), w, b, use_input_stats, 0.1, 1e-5, feedback, rule, scale
        ),
    )


def _group_norm(name: str, x: Shape, groups: int) -> Case:
    return Case(
        f"group_norm-{name}",
        x,
        (x[1],),
        (x[1],),
        lambda a, w, b: F.group_norm(a, groups, w, b, 1e-5),
        lambda a, w, b, feedback, rule, scale: ops.group_norm(
            a, groups, w, b, 1e-5, feedback, rule, scale
        ),
    )


CASES: tuple[Case, ...] = (
    *_linear_cases(),
    *_convolution_cases(),
    *(_matmul(*row) for row in _MATMUL_SHAPES),
    _addmm("2d", (5, 4), (4, 3), (3,), 1.0, 1.0),
    _addmm("2d-scaled", (5, 4), (4, 3), (5, 1), 0.5, -2.0),
    _addmm("batched", (2, 5, 4), (2, 4, 3), (2, 5, 3), 1.0, 1.0),
    _addmm("batched-scaled", (2, 5, 4), (2, 4, 3), (1, 3), 2.0, 0.25),
    _einsum("heads", (2, 5, 8), (4, 8, 3), "bti,hio->bhto"),
    _einsum("heads-out", (2, 4, 5, 3), (4, 3, 8), "bhto,hoi->bti"),
    _einsum("first", (5, 8), (6, 8), "oi, bi -> bo", weight_at=0),
    _einsum("implicit", (5, 8), (8, 3), "zi,ia"),
    _einsum("scalar", (8,), (8,), "i,i->"),
    _batch_norm("2d-training", (6, 4), True),
    _batch_norm("4d-training", (3, 4, 5, 2), True),
    _batch_norm("5d-training-untracked", (3, 4, 2, 3, 2), True, tracked=False),
    _batch_norm("4d-evaluation", (3, 4, 5, 2), False),
    _batch_norm("3d-evaluation", (3, 4, 5), False),
    _layer_norm("last", (3, 5, 8), (8,)),
    _layer_norm("last-nobias", (5, 8), (8,), bias=False),
    _layer_norm("two-dims", (2, 3, 5, 4), (5, 4)),
    _group_norm("4d", (3, 6, 5, 2), 3),
    _group_norm("2d", (3, 6), 2),
    _group_norm("instance", (2, 4, 7), 4),
    _rms_norm("last", (3, 5, 8), (8,)),
    _rms_norm("default-eps", (5, 8), (8,), eps=None),
    _rms_norm("two-dims", (2, 3, 5, 4), (5, 4)),
    _instance_norm("3d-untracked", (3, 4, 7), True, tracked=False),
    _instance_norm("4d-tracked", (3, 4, 5, 2), True),
    _instance_norm("4d-evaluation", (3, 4, 5, 2), False),
)


def find(name: str) -> Case:
    """The case of that name."""
    return next(case for case in CASES if case.name == name)


ONE_EACH: tuple[Case, ...] = tuple(
    find(name)
    for name in (
        "linear-3d",
        "conv2d-mixed",
        "conv_transpose2d-output-padding",
        "matmul-3d",
        "matmul-left-3d",
        "addmm-2d",
        "addmm-batched",
        "einsum-heads",
        "batch_norm-4d-training",
        "batch_norm-4d-evaluation",
        "layer_norm-last",
        "group_norm-4d",
        "rms_norm-last",
    )
)
"""One case for each op and mode, for the checks that take long."""
