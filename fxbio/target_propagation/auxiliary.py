"""Auxiliary outputs: random features that tell an inverse more than a few class scores can."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fxbio.rules.seeding import feedback_generator

__all__ = ["AuxiliaryUnits"]


class AuxiliaryUnits(nn.Module):
    """``z = tanh(A x)`` with A drawn once: the second half of the output ``h = [o, z]``.

    (N, …) → (N, units). A is a persistent buffer: the inverse that has learned with it needs the
    same again (Bartunov et al. 2018, section 3.2).
    """

    weight: Tensor

    def __init__(self, name: str, inputs: int, units: int, seed: int) -> None:
        """Draw A from the seed and the name of the block, on the CPU."""
        super().__init__()
        generator = feedback_generator(seed, f"{name}:auxiliary")
        weight = torch.rand(units, inputs, generator=generator) * 2 - 1
        self.register_buffer("weight", weight * math.sqrt(6.0 / (inputs + units)))

    def forward(self, x: Tensor) -> Tensor:
        """The features of each sample."""
        return torch.tanh(nn.functional.linear(x.flatten(1), self.weight))
