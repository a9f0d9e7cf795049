"""Layers of an inverse: each undoes the shape of one operation of the forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxbio.target_propagation.operations import Activation, Geometry, Operation

__all__ = [
    "ConvInverse",
    "ConvTransposeInverse",
    "EinsumInverse",
    "Elementwise",
    "Fold",
    "LinearInverse",
    "NearestUpsample",
    "Permute",
    "Reshape",
]


class LinearInverse(nn.Linear):
    """(…, out) → (…, in): ``V h + c``."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__(outputs, inputs)
        glorot_(self.weight, outputs, inputs)
        nn.init.zeros_(self.bias)


class _SpatialInverse(nn.Module):
    """Base of the inverses of both convolutions."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.geometry = _geometry(operation)
        self.size = operation.input_shape[2:]
        self.weight = _conv_weight(operation, self.geometry)
        self.bias = nn.Parameter(torch.zeros(operation.input_shape[1]))

    def extra_repr(self) -> str:
        """Shape of the weight, and the size it leads to."""
        return f"weight={tuple(self.weight.shape)}, size={self.size}"


class ConvInverse(_SpatialInverse):
    """The transposed convolution back to the size of the input, evaluated as its gradient is.

    (N, out, …) → (N, in, …). ``weight`` has the layout of the forward weight, (out, in/groups, …).
    """

    def forward(self, h: Tensor) -> Tensor:
        """``Vᵀ h + c``."""
        conv = getattr(F, f"conv_transpose{len(self.size)}d")
        stride, _, dilation, groups = _arguments(self.geometry)
        x = conv(h, self.weight, None, stride, 0, 0, groups, dilation)
        x = fitted(x, self.geometry.padding, self.size)
        return x + self.bias.view(-1, *[1] * len(self.size))


class ConvTransposeInverse(_SpatialInverse):
    """The convolution that a transposed one belongs to.

    (N, out, …) → (N, in, …). ``weight`` has the layout of the forward weight, (in, out/groups, …).
    """

    def forward(self, h: Tensor) -> Tensor:
        """``V h + c``."""
        conv = getattr(F, f"conv{len(self.size)}d")
        x = conv(h, self.weight, self.bias, *_arguments(self.geometry))
        return fitted(x, (0,) * len(self.size), self.size)

    def extra_repr(self) -> str:
        """Shape of the weight, and the size it leads to."""
        return f"weight={tuple(self.weight.shape)}, size={self.size}"


class EinsumInverse(nn.Module):
    """The einsum of the same letters in the other direction."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        assert operation.equation is not None
        x, weight, h = operation.equation
        self.equation = f"{h},{weight}->{x}"
        size = dict(zip(weight, operation.weight_shape, strict=True))
        self.weight = nn.Parameter(torch.empty(operation.weight_shape))
        outputs = math.prod(size[c] for c in weight if c not in x)
        glorot_(self.weight, outputs, math.prod(size[c] for c in weight if c not in h))
        self.bias = nn.Parameter(torch.zeros([size.get(c, 1) for c in x[1:]]))

    def forward(self, h: Tensor) -> Tensor:
        """``V h + c``."""
        return torch.einsum(self.equation, h, self.weight) + self.bias

    def extra_repr(self) -> str:
        """The equation and the shape of the weight."""
        return f"{self.equation}, weight={tuple(self.weight.shape)}"


class Fold(nn.Module):
    """The sum of overlapping patches, ``F.unfold`` transposed: (N, C·∏kernel, L) → (N, C, H, W)."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.geometry = _geometry(operation)
        self.size = operation.input_shape[2:]

    def forward(self, h: Tensor) -> Tensor:
        """Put the patches back."""
        g = self.geometry
        return F.fold(h, self.size, g.kernel, g.dilation, g.padding, g.stride)


class NearestUpsample(nn.Module):
    """Every unit gets the value of its pool: (N, C, small …) or (N, C) → (N, C, large …)."""

    def __init__(self, size: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(size)

    def forward(self, h: Tensor) -> Tensor:
        """Repeat the nearest value."""
        if h.dim() == 2:
            h = h.reshape(*h.shape, *[1] * len(self.size))
        return F.interpolate(h, self.size, mode="nearest")

    def extra_repr(self) -> str:
        """The size it leads to."""
        return str(self.size)


class Reshape(nn.Module):
    """(N, …) → (N, *shape)."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, h: Tensor) -> Tensor:
        """Arrange the features of each sample anew."""
        return h.reshape(h.shape[0], *self.shape)

    def extra_repr(self) -> str:
        """The shape per sample."""
        return str(self.shape)


class Permute(nn.Module):
    """The dimensions in another order."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = tuple(dims)

    def forward(self, h: Tensor) -> Tensor:
        """Permute."""
        return h.permute(self.dims)


class Elementwise(nn.Module):
    """An activation."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, h: Tensor) -> Tensor:
        """Apply it."""
        return self.activation(h)

    def extra_repr(self) -> str:
        """Its name."""
        return str(self.activation)


@torch.no_grad()
def glorot_(weight: Tensor, fan_in: int, fan_out: int) -> None:
    """Uniform within ``±√(6/(fan_in + fan_out))`` (Glorot & Bengio 2010), from the global state."""
    weight.uniform_(-1.0, 1.0).mul_(math.sqrt(6.0 / (fan_in + fan_out)))


def fitted(x: Tensor, front: Sequence[int], size: Sequence[int]) -> Tensor:
    """Crop (N, C, …) by ``front`` entries in front, and crop or zero-pad it behind to ``size``."""
    have = x.shape[2:]
    sides = [(-f, f + s - h) for f, s, h in zip(front, size, have, strict=True)]
    if not any(side for pair in sides for side in pair):
        return x
    return F.pad(x, [side for pair in reversed(sides) for side in pair])


def _geometry(operation: Operation) -> Geometry:
    assert operation.geometry is not None
    return operation.geometry


def _arguments(geometry: Geometry) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    return geometry.stride, geometry.padding, geometry.dilation, geometry.groups


def _conv_weight(operation: Operation, geometry: Geometry) -> nn.Parameter:
    """A weight in the layout of the forward one, sized by the channels of one group."""
    weight = nn.Parameter(torch.empty(operation.weight_shape))
    taps, groups = math.prod(geometry.kernel), geometry.groups
    outputs, inputs = operation.output_shape[1] // groups, operation.input_shape[1] // groups
    glorot_(weight, outputs * taps, inputs * taps)
    return weight
