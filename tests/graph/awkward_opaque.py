"""Code that no rule can reach into, and code that only looks like it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.graph.awkward import WIDTH, awkward, rows
from tests.graph.awkward_control import linear
from tests.graph.awkward_functional import OfRows, weight


class OfSteps(nn.Module):
    """Takes a batch of sequences."""

    def example_inputs(self) -> Tensor:
        return rows(2, 5)


@awkward("head linear", opaque=(("net", "fused"),))
class Lstm(OfSteps):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.head = nn.LSTM(WIDTH, WIDTH, 2, batch_first=True), linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x)[0])


@awkward("head linear", opaque=(("net", "fused"),))
class Gru(OfSteps):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.head = nn.GRU(WIDTH, WIDTH, batch_first=True), linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x)[1][-1])


@awkward("head linear", opaque=(("cell", "fused"),))
class LstmCell(OfSteps):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(WIDTH, WIDTH), linear()

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        assert state is not None
        return self.head(state[0])


class Plain(nn.Module):
    """Small enough to script."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = linear()

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.fc(x))


@awkward("a linear", "b linear", opaque=(("scripted", "TorchScript"),))
class Scripted(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = linear(), linear()
        self.scripted = torch.jit.script(Plain())

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.scripted(self.a(x)))


class OwnBackward(torch.autograd.Function):
    """A product with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return error @ w.t(), x.t() @ error


@awkward("a linear", "b linear", opaque=(("", "OwnBackward"),))
class OwnFunction(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.w, self.b = linear(), weight(), linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(OwnBackward.apply(self.a(x), self.w))


class Spike(torch.autograd.Function):
    """A step with a smooth gradient, as spiking networks use it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x)

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return error / (1 + x.abs()) ** 2


@awkward("a linear", "b linear")
class SpikeFunction(OfRows):
    """A function of activations alone is no obstacle."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = linear(), linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(Spike.apply(self.a(x)))


@torch.library.custom_op("fxbio_tests::product", mutates_args=())
def product(x: Tensor, w: Tensor) -> Tensor:
    """An op whose inside nobody sees."""
    return x @ w


@product.register_fake
def _(x: Tensor, w: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], w.shape[1])


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, error: Tensor) -> tuple[Tensor, Tensor]:
    x, w = ctx.saved_tensors
    return error @ w.t(), x.t() @ error


product.register_autograd(_backward, setup_context=_save)


@awkward("a linear", "b linear", opaque=(("", "product"),))
class CustomOp(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.w, self.b = linear(), weight(), linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(product(self.a(x), self.w))


@awkward("a linear", opaque=(("pair", "rule"),))
class BilinearLayer(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.pair = linear(), nn.Bilinear(WIDTH, WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(self.a(x), x)


@awkward("style linear", "head conv2d", opaque=(("", "depends on the input"),))
class Modulated(nn.Module):
    """The weight is scaled by an activation before it is applied."""

    def __init__(self) -> None:
        super().__init__()
        self.style, self.w = linear(), weight(WIDTH, WIDTH, 3, 3)
        self.head = nn.Conv2d(WIDTH, 3, 1)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale = self.style(style).view(1, -1, 1, 1)
        return self.head(F.conv2d(x, self.w * scale).relu())

    def example_inputs(self) -> tuple[Tensor, Tensor]:
        return torch.ones(2, WIDTH, 6, 6), rows(1)
