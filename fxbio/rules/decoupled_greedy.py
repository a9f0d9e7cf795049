"""Decoupled greedy learning: every block has a classifier of its own."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxbio.rules.learning_rule import rule
from fxbio.rules.local_rule import LocalRule
from fxbio.rules.option_checks import check_whole, check_word
from fxbio.rules.routed_rule import ReceiverInfo

__all__ = ["GreedyLearning", "classify"]

_POOLS: tuple[Any, ...] = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)


@rule("dgl", aliases=("decoupled-greedy-learning",))
@dataclass(frozen=True)
class GreedyLearning(LocalRule):
    """Each layer or block learns from a classifier of its own; no error crosses its boundary.

    The classifier pools what it sees to ``pool`` positions a side, and is linear or has one hidden
    layer. It learns the labels with a cross-entropy of its own, weighted as the model's. The labels
    are recovered from the error of the model's softmax cross-entropy, ``y = softmax(a) − N e``.
    """

    paper: ClassVar[str] = "Belilovsky et al. 2020, arXiv 1901.08164"

    pool: int = 2
    """Positions a side that the classifier sees of an image."""
    hidden: int = 0
    """Units of its hidden layer; 0 for a linear classifier."""
    reduction: Literal["mean", "sum"] = "mean"
    """How the loss adds up the batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("reduction", self.reduction, ("mean", "sum"))
        check_whole("pool", self.pool)
        check_whole("hidden", self.hidden, least=0)

    @property
    def mean_loss(self) -> bool:
        return self.reduction == "mean"

    def pooled(self, receiver: ReceiverInfo) -> tuple[int, ...]:
        positions = list(receiver.shape[1:])
        positions.pop(receiver.channel_dim - 1 if receiver.channel_dim > 0 else -1)
        return tuple(min(self.pool, size) for size in positions)

    def layers(self, receiver: ReceiverInfo, generator: torch.Generator) -> list[nn.Linear]:
        """The layers of the classifier, as torch initialises them."""
        inputs = receiver.shape[receiver.channel_dim] * math.prod(self.pooled(receiver))
        widths = [inputs, *([self.hidden] if self.hidden else []), receiver.classes]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return [nn.Linear(before, after) for before, after in itertools.pairwise(widths)]


def classify(
    x: Tensor,
    channel_dim: int,
    pooled: tuple[int, ...],
    layers: list[tuple[Tensor, Tensor]],
) -> Tensor:
    """Logits of the classifier of a receiver, (N, K).

    Args:
        x: the receiver.
        channel_dim: its dimension of channels.
        pooled: positions by dimension that the classifier sees.
        layers: weight and bias of its layers.
    """
    x = x.movedim(channel_dim, 1)
    if pooled:
        x = _POOLS[len(pooled) - 1](x, pooled)
    x = x.flatten(1)
    for weight, bias in layers[:-1]:
        x = F.linear(x, weight, bias).relu()
    return F.linear(x, *layers[-1])
