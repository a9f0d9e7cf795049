"""Weights that are raw parameters, applied by functions and operators."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.graph.awkward import WIDTH, awkward, image, rows


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*(shape or (WIDTH, WIDTH))) / WIDTH**0.5)


class OfRows(nn.Module):
    """Takes feature vectors."""

    def example_inputs(self) -> Tensor:
        return rows()


class OfImages(nn.Module):
    """Takes feature maps."""

    def example_inputs(self) -> Tensor:
        return image()


@awkward("a linear", "b linear")
class FunctionalLinear(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.bias = weight(), weight(), nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.a, self.bias).relu(), weight=self.b)


@awkward("first conv1d", "second conv2d", "third conv3d", "back conv_transpose2d")
class FunctionalConv(OfImages):
    def __init__(self) -> None:
        super().__init__()
        self.first = weight(WIDTH, WIDTH, 3)
        self.second = weight(WIDTH, WIDTH // 2, 3, 3)
        self.third = weight(WIDTH, WIDTH, 1, 3, 3)
        self.back = weight(WIDTH, WIDTH, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.conv1d(x.flatten(2), self.first, padding=1).view_as(x).tanh()
        h = F.conv2d(h, self.second, stride=2, padding="valid", groups=2)
        h = F.conv3d(h.unsqueeze(2), self.third, padding=(0, 1, 1)).squeeze(2)
        return F.conv_transpose2d(h, self.back, stride=2, output_padding=1)


@awkward("a matmul", "b matmul", "c matmul", "d matmul", "e matmul")
class Operators(OfRows):
    """``x @ W``, ``x @ W.T``, ``W @ x`` and products under their other names."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (weight() for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        h = (x @ self.a).tanh()
        h = torch.matmul(h, self.b.T).tanh()
        h = (self.c @ h.t()).t().tanh()
        h = torch.mm(h, self.d).tanh()
        return torch.stack([torch.mv(self.e, row) for row in h[:1]])


@awkward("a matmul", "b matmul")
class Addmm(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = weight(), weight()
        self.bias = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.addmm(self.bias, x, self.a).tanh()
        return torch.addmm(self.bias, h, self.b, beta=0.5, alpha=2.0)


@awkward("a matmul", "b matmul", "c matmul")
class Batched(nn.Module):
    """One matrix for each member of a batch, as grouped layers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (weight(3, WIDTH, WIDTH) for _ in range(3))
        self.bias = nn.Parameter(torch.zeros(3, 1, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.bmm(x, self.a).tanh()
        h = torch.baddbmm(self.bias, h, self.b).tanh()
        return h @ self.c

    def example_inputs(self) -> Tensor:
        return rows(3, 4)


@awkward("a matmul", "b matmul")
class Einsum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = weight(WIDTH, 2, 4), weight(2, 4, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        heads = torch.einsum("bnd,dhe->bhne", x, self.a).tanh()
        return torch.einsum("bhne,hed->bnd", heads, self.b)

    def example_inputs(self) -> Tensor:
        return rows(2, 5)


@awkward("table matmul !", "a linear")
class OneHotPositions(nn.Module):
    """A look-up written as a product with positions that the forward makes itself."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.a = weight(10, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        one_hot = F.one_hot(torch.arange(x.shape[1]), 10).to(self.table)
        return self.a(x + one_hot @ self.table)

    def example_inputs(self) -> Tensor:
        return rows(2, 5)


@awkward("buffered.first linear <root>", "buffered.second linear <root>", "a linear")
class PositionsInBuffer(OfRows):
    """A network over fixed coordinates: its products are no steps to another weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(WIDTH, WIDTH)
        self.buffered = nn.Module()
        self.buffered.first, self.buffered.second = weight(), weight()
        self.register_buffer("coordinates", torch.linspace(-1, 1, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        bias = F.linear(self.coordinates, self.buffered.first).relu()
        return self.a(x + F.linear(bias, self.buffered.second)).tanh()


@awkward("layers.0 matmul", "layers.1 linear", "by_name.last linear")
class InLists(OfRows):
    """Parameters in a list and in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ParameterList([weight(), weight()])
        self.by_name = nn.ParameterDict({"last": weight()})

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.layers
        return F.linear(F.linear((x @ first).tanh(), second).tanh(), self.by_name["last"])


@awkward("weight matmul", "weight#1 matmul", "head linear")
class OwnNamedWeight(OfRows):
    """The root itself holds a parameter called ``weight``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = weight()
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x @ self.weight).tanh() @ self.weight.t())


@awkward("inner.a linear <root>", "inner.b linear <root>")
class WeightsOfAnother(OfRows):
    """The parent applies what a child holds, and the child's forward is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"a": nn.Linear(WIDTH, WIDTH), "b": nn.Linear(WIDTH, WIDTH)})

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.inner["a"], self.inner["b"]
        h = F.linear(x, a.weight, a.bias)
        return F.linear(F.relu_(h), b.weight, b.bias)


@awkward("a linear", "b linear")
class InPlace(OfRows):
    """Activations that overwrite their input, and writes by index."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        h[:, 0] = 0.0
        h.mul_(2.0)
        h += 1.0
        h = nn.functional.leaky_relu_(h)
        out = torch.zeros_like(h)
        out[1:] = self.b(h)[1:]
        return out
