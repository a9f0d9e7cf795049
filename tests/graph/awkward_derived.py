"""Weights that are computed from parameters before they are applied."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from tests.graph.awkward import WIDTH, awkward
from tests.graph.awkward_functional import OfImages, OfRows, weight


def hooked_weight_norm(layer: nn.Module) -> nn.Module:
    """Weight norm as forward hooks do it, which torch calls deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return weight_norm(layer)


@awkward("a linear", "b conv1d")
class WeightNormByHook(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a = hooked_weight_norm(nn.Linear(WIDTH, WIDTH))
        self.b = hooked_weight_norm(nn.Conv1d(1, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).tanh().unsqueeze(1))


@awkward("a linear", "b conv_transpose1d")
class WeightNorm(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a = parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH))
        self.b = parametrizations.weight_norm(nn.ConvTranspose1d(1, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).tanh().unsqueeze(1))


@awkward("a linear", "b conv2d")
class SpectralNormByHook(OfImages):
    def __init__(self) -> None:
        super().__init__()
        self.a = spectral_norm(nn.Linear(6, 6))
        self.b = spectral_norm(nn.Conv2d(WIDTH, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).tanh())


@awkward("a linear", "b conv2d")
class SpectralNorm(OfImages):
    def __init__(self) -> None:
        super().__init__()
        self.a = parametrizations.spectral_norm(nn.Linear(6, 6))
        self.b = parametrizations.spectral_norm(nn.Conv2d(WIDTH, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).tanh())


@awkward("w linear", "head linear")
class OwnSpectralNorm(OfRows):
    """Power iteration in the forward: products of the weight with a buffer apply nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.head = weight(), nn.Linear(WIDTH, 3)
        self.register_buffer("u", F.normalize(torch.ones(WIDTH), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            v = F.normalize(self.w.t() @ self.u, dim=0)
            self.u.copy_(F.normalize(self.w @ v, dim=0))
        sigma = torch.dot(self.u, torch.mv(self.w, v))
        return self.head(F.linear(x, self.w / sigma).tanh())


@awkward("w conv2d")
class WeightStandardisation(OfImages):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.gain = weight(4, WIDTH, 3, 3), nn.Parameter(torch.ones(4, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.w.mean(dim=(1, 2, 3), keepdim=True)
        deviation = self.w.var(dim=(1, 2, 3), keepdim=True).sqrt()
        return F.conv2d(x, self.gain * (self.w - mean) / (deviation + 1e-5))


class StandardisedConv(nn.Conv2d):
    """A subclass with its own forward, in the manner of the normaliser-free networks."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        scale = torch.full((self.out_channels,), 0.5, device=x.device)
        w = F.batch_norm(flat, None, None, weight=scale, training=True)
        return F.conv2d(x, w.reshape_as(self.weight), self.bias, self.stride, self.padding)


class PaddedConv(nn.Conv2d):
    """A subclass that prepares its input and leaves the rest to its parent."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (1, 1, 1, 1)))


class NamedConv(nn.Conv2d):
    """A subclass without a forward of its own."""


@awkward("a conv2d", "b conv2d", "c conv2d")
class ConvSubclasses(OfImages):
    def __init__(self) -> None:
        super().__init__()
        self.a = StandardisedConv(WIDTH, WIDTH, 3, padding=1)
        self.b = PaddedConv(WIDTH, WIDTH, 3)
        self.c = NamedConv(WIDTH, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


class LowRank(nn.Module):
    """A linear layer plus a product of two thin ones."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(WIDTH, WIDTH)
        self.down, self.up = nn.Linear(WIDTH, 2, bias=False), nn.Linear(2, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 0.5 * self.up(self.down(x))


@awkward("a.base linear", "a.down linear", "a.up linear", "head linear")
class LoraModules(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = LowRank(), nn.Linear(WIDTH, 3)
        self.a.base.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x).tanh())


@awkward("w linear", "head linear")
class LoraMerged(OfRows):
    """``W + B A`` is one weight of three parameters, used once."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b, self.a = weight(), weight(WIDTH, 2), weight(2, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(x, self.w + self.b @ self.a).tanh())


@awkward("qkv linear", "qkv#1 linear", "qkv#2 linear", "out linear")
class ChunkedProjection(OfRows):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = weight(3 * WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (F.linear(x, part) for part in self.qkv.chunk(3))
        return self.out(torch.softmax(q @ k.t(), dim=-1) @ v)


@awkward("w linear", "head linear")
class NoisyWeight(OfRows):
    """Noise, a mask that is a plain attribute, and dropout on the weight itself."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.head = weight(), nn.Linear(WIDTH, 3)
        self.mask = torch.ones(WIDTH, WIDTH).tril()

    def forward(self, x: Tensor) -> Tensor:
        noisy = self.w * self.mask + 0.1 * torch.randn_like(self.w)
        return self.head(F.linear(x, F.dropout(noisy, 0.1, self.training)).tanh())


@awkward("inner.w matmul", "inner.w#1 matmul")
class RotatedWeight(OfRows):
    """A product of the weight with a fixed matrix is still only a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ParameterDict({"w": weight()})

    def forward(self, x: Tensor) -> Tensor:
        rotated = self.inner["w"] @ torch.eye(WIDTH).roll(1, 0)
        return ((x @ rotated).tanh() @ self.inner["w"].mT).tanh()


@awkward("w linear", "head linear")
class QuantisedWeight(OfRows):
    """Rounding with a straight-through gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.head = weight(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        rounded = self.w + ((self.w * 4).round() / 4 - self.w).detach()
        return self.head(F.linear(x, rounded).tanh())


@awkward("w linear", "head linear")
class IteratedWeight(OfRows):
    """An orthogonal weight by iteration: naive recursion over its formula takes for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.head = weight(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        w = self.w / self.w.norm()
        for _ in range(15):
            w = 1.5 * w - 0.5 * w @ w.t() @ w
        return self.head(F.linear(x, w).tanh())
