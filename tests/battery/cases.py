"""The ops of the battery. A new op is one line in ``CASES``.

Each model is written a second time as plain functions, with every weight applied by ``cross``:

    ``t = f(x, B);  y = f(x.detach(), W) + (t - t.detach())``

Nothing of fxbio takes part in that second writing.
"""

# ruff: noqa: E501  (the table at the end has one line for each case)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.battery import modules as m

__all__ = ["CASES", "OF_MATRICES", "Case", "Cross"]

Weights = dict[str, Tensor]


class Cross(Protocol):
    """How a reference applies a weight."""

    def __call__(
        self,
        name: str,
        function: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        weight: Tensor,
        part: Callable[[Tensor], Tensor] = ...,
    ) -> Tensor:
        """``function(x, weight)`` with the rule of the weight called ``name``.

        ``part`` cuts the feedback of a whole parameter to the part that is used here.
        """


@dataclass(frozen=True)
class Case:
    """A model that applies weights in one certain way."""

    name: str
    body: Callable[[], nn.Module]
    reference: Callable[[Weights, Cross, Tensor], Tensor]
    """The body as plain functions of its parameters (their names in the body) and its input."""
    shape: tuple[int, ...] = (4, 5, 16)
    """Of the input, batch first."""
    dim: int = -1
    """Dimension of the features."""
    weights: tuple[str, ...] = field(default=("weight",))
    """The ruled weights, by their names in the body."""
    computed: bool = False
    """Whether the weight exists only while the forward runs."""
    table: bool = False
    """Whether its rows are looked up: then no error goes below, whatever the rule."""

    def build(self) -> m.Model:
        """The stock model, the same at each call."""
        with torch.random.fork_rng():
            torch.manual_seed(7)
            return m.Model(self.body(), self.shape[self.dim], self.trailing)

    def example(self, batch: int | None = None) -> Tensor:
        """An input that depends on the batch size only."""
        shape = (batch or self.shape[0], *self.shape[1:])
        return torch.randn(shape, generator=torch.Generator().manual_seed(11))

    @property
    def trailing(self) -> int:
        """Number of dimensions after that of the features."""
        return 0 if self.dim == -1 else len(self.shape) - 2

    def __str__(self) -> str:
        return self.name


def _conv(kind: str, w: Weights, cross: Cross, x: Tensor, **geometry: Any) -> Tensor:
    function = getattr(F, kind)
    y = cross("weight", lambda x, weight: function(x, weight, **geometry), x, w["weight"])
    return y + w["bias"].reshape(-1, *[1] * (x.dim() - 2))


def _linear(w: Weights, cross: Cross, x: Tensor, at: str = "weight", bias: str = "bias") -> Tensor:
    return cross(at, F.linear, x, w[at]) + w[bias]


def _shared(w: Weights, cross: Cross, x: Tensor) -> Tensor:
    layer = partial(_linear, w, cross, at="layer.weight", bias="layer.bias")
    return layer(torch.tanh(layer(x)))


def _standardised(w: Weights, cross: Cross, x: Tensor) -> Tensor:
    flat = w["weight"].flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    weight = (centred / (flat.std(1, keepdim=True) + 1e-5)).reshape(w["weight"].shape)
    y = cross("weight", lambda x, k: F.conv2d(x, k, padding=1), x, weight)
    return y + w["bias"].reshape(-1, 1, 1)


def _weight_norm(w: Weights, cross: Cross, x: Tensor) -> Tensor:
    size, direction = (w[f"parametrizations.weight.original{k}"] for k in (0, 1))
    weight = size * direction / direction.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    y = cross("weight", lambda x, k: F.conv2d(x, k, padding=1), x, weight)
    return y + w["bias"].reshape(-1, 1, 1)


def _low_rank(w: Weights, cross: Cross, x: Tensor) -> Tensor:
    return (
        cross("base.weight", F.linear, x, w["base.weight"] + w["up"] @ w["down"]) + w["base.bias"]
    )


def _chunk(w: Weights, cross: Cross, x: Tensor, k: int, name: str) -> Tensor:
    def part(matrix: Tensor) -> Tensor:
        rows = matrix.shape[0] // 3
        return matrix[k * rows : (k + 1) * rows]

    return cross(name, F.linear, x, part(w[name]), part)


def _chunked(w: Weights, cross: Cross, x: Tensor) -> Tensor:
    query, key, value = (_chunk(w, cross, x, k, "qkv") for k in range(3))
    return torch.tanh(query @ key.mT) @ value


def _slice(w: Weights, cross: Cross, x: Tensor) -> Tensor:
    def part(matrix: Tensor) -> Tensor:
        return matrix[12:].t()

    return cross("matrix", torch.matmul, x, part(w["matrix"]), part)


def _attend(w: Weights, cross: Cross, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Two heads, then the projection of the output."""
    query, key, value = (t.unflatten(-1, (2, -1)).transpose(1, 2) for t in (q, k, v))
    scores = query @ key.mT / query.shape[-1] ** 0.5
    mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    return _linear(w, cross, mixed, "attention.out_proj.weight", "attention.out_proj.bias")


def _attention(w: Weights, cross: Cross, x: Tensor) -> Tensor:
    biases = w["attention.in_proj_bias"].chunk(3)
    parts = [_chunk(w, cross, x, k, "attention.in_proj_weight") + biases[k] for k in range(3)]
    return _attend(w, cross, *parts)


def _cross_attention(w: Weights, cross: Cross, x: Tensor) -> Tensor:
    memory = x[..., : x.shape[-1] // 2]
    names = [f"attention.{letter}_proj_weight" for letter in "qkv"]
    biases = w["attention.in_proj_bias"].chunk(3)
    applied = zip(names, (x, memory, memory), biases, strict=True)
    parts = [cross(name, F.linear, t, w[name]) + bias for name, t, bias in applied]
    return _attend(w, cross, *parts)


def _words(w: Weights, cross: Cross, x: Tensor, at: str) -> Tensor:
    def look_up(x: Tensor, table: Tensor) -> Tensor:
        return F.embedding(m.words_of(x), table).sum(-1)

    return x + cross(at, look_up, x, w[at])


_PROJECTIONS = tuple(f"attention.{part}_weight" for part in ("q_proj", "k_proj", "v_proj"))
_OUT = "attention.out_proj.weight"

# fmt: off
CASES: dict[str, Case] = {case.name: case for case in (
    Case("conv2d", lambda: nn.Conv2d(4, 6, 3, padding=1), partial(_conv, "conv2d", padding=1), (4, 4, 7, 6), 1),
    Case("grouped", lambda: nn.Conv2d(4, 6, 3, stride=2, groups=2), partial(_conv, "conv2d", stride=2, groups=2), (4, 4, 7, 6), 1),
    Case("depthwise", lambda: nn.Conv2d(4, 8, 3, groups=4), partial(_conv, "conv2d", groups=4), (4, 4, 7, 6), 1),
    Case("conv-transpose", lambda: nn.ConvTranspose2d(4, 6, 3, 2), partial(_conv, "conv_transpose2d", stride=2), (4, 4, 5, 6), 1),
    Case("conv1d", lambda: nn.Conv1d(4, 6, 3, dilation=2), partial(_conv, "conv1d", dilation=2), (4, 4, 9), 1),
    Case("conv3d", lambda: nn.Conv3d(4, 6, 2), partial(_conv, "conv3d"), (4, 4, 3, 4, 5), 1),
    Case("linear-3d", lambda: nn.Linear(16, 12), _linear),
    Case("shared", lambda: m.Shared(16), _shared, weights=("layer.weight",)),
    Case("functional-linear", lambda: m.FunctionalLinear(16, 12), partial(_linear, at="matrix", bias="shift"), weights=("matrix",)),
    Case("matmul", lambda: m.MatmulLayer(16, 12), lambda w, cross, x: cross("matrix", torch.matmul, x, w["matrix"]), weights=("matrix",)),
    Case("addmm", lambda: m.AddmmLayer(16, 12), lambda w, cross, x: cross("matrix", torch.matmul, x, w["matrix"]) + w["shift"], weights=("matrix",)),
    Case("slice", lambda: m.TransposedSlice(16, 12), _slice, weights=("matrix",)),
    Case("attention", lambda: m.Attention(16, 2), _attention, weights=("attention.in_proj_weight", _OUT)),
    Case("cross-attention", lambda: m.CrossAttention(16, 2), _cross_attention, weights=(*_PROJECTIONS, _OUT)),
    Case("standardised", lambda: m.StandardisedConv2d(4, 6, 3, padding=1), _standardised, (4, 4, 7, 6), 1, computed=True),
    Case("lora", lambda: m.LowRank(16, 12, 3), _low_rank, weights=("base.weight",), computed=True),
    Case("chunked", lambda: m.ChunkedProjection(16), _chunked, weights=("qkv",)),
    Case("embedding", lambda: m.Words(), partial(_words, at="table.weight"), weights=("table.weight",), table=True),
    Case("functional-embedding", lambda: m.RawWords(), partial(_words, at="table"), weights=("table",), table=True),
    Case("weight-norm", lambda: parametrizations.weight_norm(nn.Conv2d(4, 6, 3, padding=1)), _weight_norm, (4, 4, 7, 6), 1),
)}
# fmt: on

OF_MATRICES: tuple[str, ...] = tuple(name for name, case in CASES.items() if not case.table)
"""The cases that rules about the error below can serve."""
