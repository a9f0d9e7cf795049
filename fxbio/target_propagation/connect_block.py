"""A block of a lowered graph with the errors and losses of its rule behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fxbio.target_propagation.block_target import BlockTarget
from fxbio.target_propagation.stateless_norms import StatelessNorms

__all__ = ["connect_block"]


def connect_block(
    h: Tensor,
    x: Tensor,
    target: BlockTarget,
    body: Callable[..., Tensor],
    others: Sequence[Tensor] = (),
) -> Tensor:
    """``h``, bitwise, whose error is sent to ``x`` as a difference of targets.

    Args:
        h: (N, …), what the block returned for ``x``, which it must have read detached where
            ``target.cuts``.
        x: (N, …), its input, with its history.
        target: inverse and rule of the block.
        body: the block as a function of ``x`` and the others; the inverse's loss runs it again.
        others: what else the block reads from outside of itself.
    """

    @torch.no_grad()
    def again(noisy: Tensor) -> Tensor:
        with StatelessNorms():
            return body(noisy, *others)

    return target.connect(h, x, again)
