"""Training the inverses by themselves: several steps per batch, before or between model updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from fxbio.target_propagation.block_target import BlockTarget

__all__ = ["FeedbackBlock", "train_feedback"]

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FeedbackBlock:
    """One block of a chain, as training its inverse needs it."""

    run: Map
    """Runs the block. It must leave no trace: statistics are not to be counted twice."""
    target: BlockTarget
    optimizer: torch.optim.Optimizer | None
    """Of its inverse, kept from batch to batch; ``None`` where there is none to train."""


def train_feedback(blocks: Sequence[FeedbackBlock], activations: Sequence[Tensor]) -> list[float]:
    """Train the inverse of each block for as many steps as its rule says, from the first block up.

    The blocks themselves do not learn. When ``torch.distributed`` is initialised, every rank calls
    this with its part of the batch: gradients are averaged, so that all ranks keep the same
    weights. Gradients are taken outside of ``backward()``, so hooks such as DDP's stay quiet.

    Args:
        blocks: consecutive ones, in order.
        activations: the input of the first block and the output of each, one more than blocks.

    Returns:
        The last loss of each inverse that was trained, averaged over ranks.
    """
    losses = []
    for index, block in enumerate(blocks):
        optimizer = block.optimizer
        if optimizer is None:
            continue
        value = torch.zeros(())
        for _ in range(block.target.rule.iterations):
            value = _step(blocks, index, activations, optimizer)
        losses.append(float(_averaged(value)))
    return losses


def _step(
    blocks: Sequence[FeedbackBlock],
    index: int,
    activations: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
) -> Tensor:
    target = blocks[index].target
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    with torch.enable_grad():
        run = _reconstructed(blocks, index, activations)
        loss = target.loss(run, activations[index], activations[index + 1])
        gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = _averaged(gradient)
    optimizer.step()
    # The optimizer of the model may hold these parameters too, and must pass them by.
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def _reconstructed(
    blocks: Sequence[FeedbackBlock], index: int, activations: Sequence[Tensor]
) -> Map:
    """Substitute of f in the loss of one inverse.

    Under the difference reconstruction loss that is the way on to the last block and back again
    by differences, ``h + g(f(h̃)) − g(f(h))`` at each block (Meulemans et al. 2020).
    """
    first = blocks[index].run
    if blocks[index].target.rule.loss != "difference":
        return first

    def there_and_back(noisy: Tensor) -> Tensor:
        reached = first(noisy)
        for block in blocks[index + 1 :]:
            reached = block.run(reached)
        for k in reversed(range(index + 1, len(blocks))):
            back, here, above = blocks[k].target.back, activations[k], activations[k + 1]
            reached = here + back(reached) - back(above)
        return reached

    return there_and_back


def _averaged(value: Tensor) -> Tensor:
    """The mean over ranks."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value
