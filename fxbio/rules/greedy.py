"""Decoupled greedy learning: every block has a classifier of its own."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from fxbio.errors import RuleError
from fxbio.rules.base import Family, rule
from fxbio.rules.broadcast import BroadcastRule, ReceiverInfo, check_choice

__all__ = ["GreedyLearning"]


@rule("dgl", aliases=("decoupled-greedy-learning",))
@dataclass(frozen=True)
class GreedyLearning(BroadcastRule):
    """Each layer or block learns from a classifier of its own; no error crosses its boundary.

    The classifier pools what it sees to ``pool`` positions a side, and is linear or has one hidden
    layer. It learns the labels with a cross-entropy of its own, weighted as the model's. The labels
    are recovered from the error of the model's softmax cross-entropy, ``y = softmax(a) − N e``.
    """

    paper: ClassVar[str] = "Belilovsky et al. 2020, arXiv 1901.08164"
    family: ClassVar[Family] = "local"

    pool: int = 2
    """Positions a side that the classifier sees of an image."""
    hidden: int = 0
    """Units of its hidden layer; 0 for a linear classifier."""
    reduction: Literal["mean", "sum"] = "mean"
    """How the loss adds up the batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("reduction", self.reduction, ("mean", "sum"))
        if self.pool < 1 or self.hidden < 0:
            raise RuleError("pool must be at least 1 and hidden at least 0")

    def head(self, receiver: ReceiverInfo) -> nn.Module:
        """The classifier of a receiver, with the initialisation of its layers."""
        spatial = len(receiver.shape) - 2 if receiver.channel_dim == 1 else 0
        channels = receiver.shape[receiver.channel_dim]
        sizes = [min(self.pool, size) for size in receiver.shape[2:]] if spatial else []
        pools = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
        features = channels * math.prod(sizes) if spatial else receiver.entries
        widths = [features, *([self.hidden] if self.hidden else []), receiver.classes]
        layers: list[nn.Module] = [pools[spatial](tuple(sizes))] if spatial else []
        layers.append(nn.Flatten())
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])
