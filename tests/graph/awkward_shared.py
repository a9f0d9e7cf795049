"""One weight at several places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.graph.awkward import WIDTH, awkward, tokens
from tests.graph.awkward_functional import OfRows, weight


@awkward("layer linear", "layer#1 linear", "layer#2 linear")
class SharedLayer(OfRows):
    """The same module called again and again."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.layer(x).tanh()
        return x


@awkward("encode.0 linear", "encode.0#1 linear", "decode.1 linear")
class TwoPaths(OfRows):
    """One module registered at two places; the first path names it."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Linear(WIDTH, WIDTH)
        self.encode = nn.Sequential(shared, nn.Tanh())
        self.decode = nn.Sequential(shared, nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


@awkward("a linear", "b#1 linear")
class OneParameterTwoLayers(OfRows):
    """Two layers hold one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).tanh())


class OfTokens(nn.Module):
    """Takes token numbers."""

    def example_inputs(self) -> Tensor:
        return tokens()


@awkward("embed embedding", "body linear", "head linear")
class TiedAsModule(OfTokens):
    """The head holds the table of the embedding; each use is a site of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, WIDTH)
        self.body = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embed(x)).tanh())


@awkward("embed embedding", "body linear", "embed#1 linear <root>")
class TiedAsFunction(OfTokens):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, WIDTH)
        self.body = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.body(self.embed(x)).tanh(), self.embed.weight)


@awkward("embed embedding", "body linear", "embed#1 matmul <root>")
class TiedAsProduct(OfTokens):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, WIDTH)
        self.body = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.embed(x)).tanh() @ self.embed.weight.t()


@awkward("encoder linear", "encoder#1 linear <root>")
class TiedTransposed(OfRows):
    """An autoencoder whose decoder is its encoder transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.encoder(x).tanh(), self.encoder.weight.t())


@awkward("w linear", "w#1 linear", "w#2 linear")
class Recurrence(OfRows):
    """A hand-written recurrent cell over one weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.w = weight(WIDTH, 2 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros_like(x)
        for _ in range(3):
            state = F.linear(torch.cat([x, state], dim=1), self.w).tanh()
        return state
