"""Attention: torch's own composite layers and hand-written ones."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.graph.awkward import WIDTH, awkward, rows


class OfSequences(nn.Module):
    """Takes a batch of sequences of feature vectors."""

    def example_inputs(self) -> Any:
        return rows(2, 5)


class OfTwoSequences(nn.Module):
    """Takes two such batches of different lengths."""

    def example_inputs(self) -> Any:
        return rows(2, 5), rows(2, 3)


@awkward("attention.in_proj_weight linear", "attention.out_proj linear attention", "head linear")
class SelfAttention(OfSequences):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0])


@awkward(
    "attention.in_proj_weight linear",
    "attention.in_proj_weight#1 linear",
    "attention.out_proj linear attention",
)
class CrossAttention(OfTwoSequences):
    """The packed projection is applied in two parts."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return self.attention(x, memory, memory)


@awkward(
    "attention.q_proj_weight linear",
    "attention.k_proj_weight linear",
    "attention.v_proj_weight linear",
    "attention.out_proj linear attention",
)
class SeparateProjections(OfTwoSequences):
    def __init__(self) -> None:
        super().__init__()
        sizes = {"kdim": WIDTH // 2, "vdim": WIDTH // 4}
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True, **sizes)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        k, v = memory[..., : WIDTH // 2], memory[..., : WIDTH // 4]
        return self.attention(x, k, v)[0]


def layer(path: str, *attentions: str, norms: int = 2) -> tuple[str, ...]:
    """Sites of one layer of a transformer, the norms behind what they follow."""
    sites = []
    for index, (name, *uses) in enumerate((a.split() for a in attentions), start=1):
        home = f"{path}.{name}"
        sites += [f"{home}.in_proj_weight{use} linear" for use in ("", *uses)]
        sites += [f"{home}.out_proj linear {home}", f"{path}.norm{index} norm"]
    sites += [f"{path}.linear1 linear", f"{path}.linear2 linear", f"{path}.norm{norms} norm"]
    return tuple(sites)


@awkward(*layer("encoder.layers.0", "self_attn"), *layer("encoder.layers.1", "self_attn"))
class Encoder(OfSequences):
    def __init__(self) -> None:
        super().__init__()
        one = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(one, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)


@awkward(
    *layer("net.encoder.layers.0", "self_attn"),
    "net.encoder.norm norm",
    *layer("net.decoder.layers.0", "self_attn", "multihead_attn #1", norms=3),
    "net.decoder.norm norm",
    opaque=(("net.decoder", "bool"),),
    whole=False,
)
class EncoderDecoder(OfTwoSequences):
    """torch itself looks at the values of the mask, to see whether it is a causal one."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Transformer(WIDTH, 2, 1, 1, 16, batch_first=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.net(x, y, tgt_mask=self.net.generate_square_subsequent_mask(y.shape[1]))


@awkward("kv linear", "q linear", "out linear")
class OwnAttention(OfSequences):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        k, v = self.kv(x).chunk(2, dim=-1)
        return self.out(F.scaled_dot_product_attention(self.q(x), k, v))


@awkward("key linear", "value linear", "latents matmul")
class LearnedQueries(OfSequences):
    """Queries that are parameters: their product with the keys is a use of a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(3, WIDTH))
        self.key, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        k, v = self.key(x), self.value(x)
        return torch.softmax(self.latents @ k.transpose(1, 2), dim=-1) @ v
