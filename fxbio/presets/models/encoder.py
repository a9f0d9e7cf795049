"""A small transformer encoder that classifies sequences, for direct feedback alignment.

Launay et al. 2020 (arXiv 2006.12878) send the error to each block of a transformer, or to each
part of a block. The sizes here are a choice. Normalisation stands before each part (pre-LN).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """Attention and a multilayer perceptron, each on a residual branch."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """Takes (N, length) tokens and gives (N, classes) logits."""

    def __init__(
        self,
        vocabulary: int = 100,
        length: int = 32,
        width: int = 64,
        heads: int = 4,
        depth: int = 3,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.vocabulary, self.length = vocabulary, length
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.blocks(self.tokens(tokens) + self.positions)
        return self.head(self.norm(h).mean(dim=1))

    def example_inputs(self) -> Tensor:
        """Two random sequences."""
        return torch.randint(self.vocabulary, (2, self.length))


def build_model(**sizes: int) -> Encoder:
    """Build the model; ``fxbio transform encoder.py`` calls this."""
    return Encoder(**sizes)
