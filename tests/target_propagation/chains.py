"""Chains of blocks run by hand, the way a transformed model runs them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import fxbio
from fxbio.rules import make_rule
from fxbio.rules.target_propagation import TargetRule
from fxbio.target_propagation.block_target import BlockTarget
from fxbio.target_propagation.blocks import Block, partition
from fxbio.target_propagation.connect import block_rules, make_targets

__all__ = ["Chain", "chain_of", "mlp", "partition_of", "tanh_layers"]


class Chain(nn.Module):
    """Blocks with what each carries; blocks that carry nothing run as they are."""

    def __init__(self, blocks: Sequence[nn.Module], targets: Sequence[BlockTarget]) -> None:
        super().__init__()
        self.blocks, self.targets = nn.ModuleList(blocks), nn.ModuleList(targets)

    def forward(self, x: Tensor) -> Tensor:
        for block, target in zip(self.blocks, self.targets, strict=True):
            h = block(x.detach() if target.cuts else x)
            x = target.connect(h, x, block)
        return x


def tanh_layers(*widths: int) -> nn.Sequential:
    """Blocks of a linear layer and tanh; the last one is linear."""
    pairs = list(itertools.pairwise(widths))
    layers = [nn.Sequential(nn.Linear(a, b), nn.Tanh()) for a, b in pairs[:-1]]
    return nn.Sequential(*layers, nn.Sequential(nn.Linear(*pairs[-1])))


def mlp(rule: str, widths: Sequence[int] = (6, 5, 4, 3), seed: int = 0, **options: object) -> Chain:
    """A small network of ``tanh_layers`` in double precision under one rule."""
    torch.manual_seed(seed)
    model = tanh_layers(*widths)
    return chain_of(model, rule, torch.randn(2, widths[0]), seed=seed, **options).double()


def chain_of(model: nn.Sequential, rule: str, x: Tensor, seed: int = 0, **options: object) -> Chain:
    """A sequential model whose children are blocks, under one rule."""
    blocks = partition_of(model, x)
    made = make_rule(rule, options)
    assert isinstance(made, TargetRule)
    rules = block_rules(blocks, {site: made for block in blocks for site in block.sites})
    targets = make_targets(blocks, rules, seed)
    return Chain(list(model), [targets[block.name] for block in blocks])


def partition_of(model: nn.Module, x: Tensor, blocks: Sequence[str] = ()) -> tuple[Block, ...]:
    return partition(model, fxbio.capture(model, x), blocks)
