"""Drawing feedback: from a seed and the name of a weight, on the CPU, in any order."""

from __future__ import annotations

import hashlib

import torch

__all__ = ["feedback_generator"]


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
