"""Drawing feedback: from a seed and the name of a weight, on the CPU, in any order."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from fxbio.rules.base import Rule
from fxbio.rules.fan import WeightInfo

__all__ = ["draw_feedback", "feedback_generator"]


def feedback_generator(seed: int, weight: str, turn: int = 0) -> torch.Generator:
    """A CPU generator that depends on its arguments alone: not on rank, device, order or time.

    Args:
        seed: of the policy.
        weight: qualified name of the weight.
        turn: how many draws came before.
    """
    key = f"{seed}:{weight}:{turn}".encode()
    digest = hashlib.sha256(key).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw_feedback(rule: Rule, weight: Tensor, info: WeightInfo, seed: int, turn: int = 0) -> Tensor:
    """The drawn part of the feedback of one weight.

    Args:
        rule: one that draws.
        weight: the forward weight, on the CPU.
        info: what the rule may know about it.
        seed: of the policy.
        turn: how many draws came before.
    """
    drawn = rule.draw(weight, info, feedback_generator(seed, info.name, turn))
    assert drawn is not None, f"rule '{rule.name}' declares that it draws but drew nothing"
    return drawn
