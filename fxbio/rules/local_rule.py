"""Rules whose layers and blocks learn from a loss of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from fxbio.rules.learning_rule import Family
from fxbio.rules.routed_rule import ReceiverInfo, RoutedRule

__all__ = ["LocalRule"]


@dataclass(frozen=True)
class LocalRule(RoutedRule):
    """Each receiver has a classifier of its own, to which the labels are sent."""

    family: ClassVar[Family] = "local"
    needs_labels: ClassVar[bool] = True

    @classmethod
    def memory(cls) -> str:
        return "a small classifier per layer or block"

    def _sent(self) -> str:
        return "the error of a classifier of its own, which learns the labels that show in that of"

    def pooled(self, receiver: ReceiverInfo) -> tuple[int, ...]:
        """Positions by dimension that the classifier sees; empty without any."""
        raise NotImplementedError(f"rule '{self.name}' does not define pooled()")

    def layers(self, receiver: ReceiverInfo, generator: torch.Generator) -> list[nn.Linear]:
        """The layers of the classifier, with a ReLU between each two."""
        raise NotImplementedError(f"rule '{self.name}' does not define layers()")
