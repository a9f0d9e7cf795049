"""Rules that send the error of the output straight to the layers below it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fxbio.rules.learning_rule import Family
from fxbio.rules.projection import Projection
from fxbio.rules.routed_rule import ReceiverInfo, RoutedRule

__all__ = ["BroadcastRule"]


@dataclass(frozen=True)
class BroadcastRule(RoutedRule):
    """A matrix carries the error of the source to each receiver."""

    family: ClassVar[Family] = "broadcast"

    @classmethod
    def memory(cls) -> str:
        return "a matrix per receiver, of the error's classes × what it projects to"

    def _sent(self) -> str:
        what = "labels, recovered from the error" if self.needs_labels else "error"
        return f"a projection of the {what} of"

    def matrix(self, receiver: ReceiverInfo, generator: torch.Generator) -> Tensor:
        """The fixed feedback matrix of a receiver, float32 on the CPU."""
        raise NotImplementedError(f"rule '{self.name}' does not define matrix()")

    def carrier(self, receiver: ReceiverInfo) -> Projection:
        """Application of the matrix."""
        raise NotImplementedError(f"rule '{self.name}' does not define carrier()")
