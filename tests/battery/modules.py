"""The modules of the battery: each applies one weight in its own way.

Every model is a ``Model``: a learnable gain first, so that there is a parameter below the rule
whose gradient only the rule can deliver, then the module under test.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "AddmmLayer",
    "Attention",
    "ChunkedProjection",
    "CrossAttention",
    "FunctionalLinear",
    "LowRank",
    "MatmulLayer",
    "Model",
    "RawWords",
    "Shared",
    "StandardisedConv2d",
    "TransposedSlice",
    "Words",
    "words_of",
]


class Model(nn.Module):
    """``body(gain · x)``."""

    def __init__(self, body: nn.Module, features: int, trailing: int = 0) -> None:
        """
        Args:
            body: the module under test.
            features: size of its inputs along the dimension of the features.
            trailing: number of dimensions after that one.
        """
        super().__init__()
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, features).reshape(-1, *[1] * trailing))
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """The output of the body."""
        result: Tensor = self.body(x * self.gain)
        return result

    def scaled(self, factor: float) -> float:
        """A method of the user's own."""
        return factor * float(self.gain.detach().sum())


class Shared(nn.Module):
    """One linear layer, called twice."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        """Two passes through the layer."""
        result: Tensor = self.layer(torch.tanh(self.layer(x)))
        return result


class FunctionalLinear(nn.Module):
    """``F.linear`` on a raw parameter."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(outputs, features) / features**0.5)
        self.shift = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``x Wᵀ + b``."""
        return F.linear(x, self.matrix, self.shift)


class MatmulLayer(nn.Module):
    """``x @ W``."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(features, outputs) / features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """``x W``."""
        return x @ self.matrix


class TransposedSlice(nn.Module):
    """A slice of a matrix, transposed: the methods and operators that only move entries."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.matrix = nn.Parameter(torch.randn(2 * outputs, features) / features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """``x W[n:]ᵀ``."""
        return x @ self.matrix[self.outputs :].T


class AddmmLayer(nn.Module):
    """``torch.addmm``, as GPT-2 does it: the leading dimensions folded away."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(features, outputs) / features**0.5)
        self.shift = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``b + x W``."""
        flat = torch.addmm(self.shift, x.reshape(-1, x.shape[-1]), self.matrix)
        return flat.reshape(x.shape[0], x.shape[1], -1)


class Attention(nn.Module):
    """Self-attention by ``nn.MultiheadAttention``: one fused projection of q, k and v."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(features, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Attention of a sequence to itself."""
        result: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return result


class CrossAttention(nn.Module):
    """Cross-attention by ``nn.MultiheadAttention`` with three projection matrices of their own."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        other = features // 2
        self.attention = nn.MultiheadAttention(
            features, heads, kdim=other, vdim=other, batch_first=True
        )

    def forward(self, x: Tensor) -> Tensor:
        """Attention of a sequence to half of its features."""
        memory = x[..., : x.shape[-1] // 2]
        result: Tensor = self.attention(x, memory, memory)[0]
        return result


class StandardisedConv2d(nn.Conv2d):
    """A convolution that standardises its weight first."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolution with zero mean and unit variance per filter."""
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        deviation = self.weight.std((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (deviation + 1e-5)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding)


class LowRank(nn.Module):
    """LoRA: a linear layer with ``W + B A``."""

    def __init__(self, features: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.base = nn.Linear(features, outputs)
        self.down = nn.Parameter(torch.randn(rank, features) / features**0.5)
        self.up = nn.Parameter(torch.randn(outputs, rank) / rank**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """``x (W + B A)ᵀ + b``."""
        return F.linear(x, self.base.weight + self.up @ self.down, self.base.bias)


def words_of(x: Tensor) -> Tensor:
    """A word for every number."""
    return (x.detach().abs() * 4).long() % 7


class Words(nn.Module):
    """An embedding of what is quantised, beside a connection for the error."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        """A number for each word, added to what it was made of."""
        rows: Tensor = self.table(words_of(x))
        return x + rows.sum(-1)


class RawWords(nn.Module):
    """The same by ``F.embedding`` on a raw parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(7, 3))

    def forward(self, x: Tensor) -> Tensor:
        """A number for each word, added to what it was made of."""
        return x + F.embedding(words_of(x), self.table).sum(-1)


class ChunkedProjection(nn.Module):
    """q, k and v from chunks of one parameter."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.qkv = nn.Parameter(torch.randn(3 * features, features) / features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Linear attention with one head."""
        parts = self.qkv.chunk(3)
        query, key = F.linear(x, parts[0]), F.linear(x, parts[1])
        return torch.tanh(query @ key.mT) @ F.linear(x, parts[2])
