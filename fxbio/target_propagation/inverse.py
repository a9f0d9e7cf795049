"""The learned inverse of a block: its operations mirrored, last to first.

=========================== ==================================================================
forward                     inverse
=========================== ==================================================================
linear                      linear
conv                        transposed conv to the size of the input
transposed conv             conv
einsum, ``x @ W``           einsum of the same letters in the other direction
unfold                      fold; with an einsum behind it, a locally connected layer
max, average, adaptive pool nearest upsampling: each unit gets the value of its pool
flatten, view, transpose    the reverse
activation                  see ``placement``
norm, dropout, sum          nothing: their shape is the same, and V learns their scale
anything else               one dense layer for the whole block
=========================== ==================================================================

A block with several ways through it is mirrored along the one with the most weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from fxbio.errors import RuleError
from fxbio.rules.seeding import feedback_generator
from fxbio.rules.target_propagation import Placement
from fxbio.target_propagation.blocks import Block
from fxbio.target_propagation.inverse_layers import (
    ConvInverse,
    ConvTransposeInverse,
    EinsumInverse,
    Elementwise,
    Fold,
    LinearInverse,
    NearestUpsample,
    Permute,
    Reshape,
)
from fxbio.target_propagation.operations import Activation, Operation, range_of

__all__ = ["InverseFactory", "build_inverse"]

InverseFactory = Callable[[Block], nn.Module]
"""What a user gives in place of the mirrored inverse."""

LARGEST_DENSE = 2**27
"""Most weights of a dense inverse that nobody asked for: half a gibibyte in float32."""


def build_inverse(
    block: Block,
    seed: int,
    *,
    placement: Placement = "after",
    factory: InverseFactory | None = None,
    auxiliary: int = 0,
) -> nn.Module:
    """A module from the output of a block to the shape of its input, on the CPU.

    Args:
        block: one with a block before it.
        seed: of the policy; the initial weights depend on it and the name of the block alone.
        placement: where the activation goes.
        factory: makes the inverse instead.
        auxiliary: number of features that the output is joined with.

    Raises:
        RuleError: when the factory returns something else, or only a dense inverse would do and
            it would be too large.
    """
    generator = feedback_generator(seed, f"{block.name}:inverse")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        if factory is not None:
            return _checked(factory(block), block, auxiliary)
        if auxiliary or any(operation.kind == "other" for operation in block.operations):
            return nn.Sequential(*_dense(block, placement, auxiliary))
        return nn.Sequential(*_mirrored(block, placement))


def _mirrored(block: Block, placement: Placement) -> Iterator[nn.Module]:
    passed_weight = placement == "before"
    for operation in reversed(block.operations):
        if operation.activation is None:
            yield from _layer(operation)
            passed_weight = passed_weight or bool(operation.weight_shape)
        elif passed_weight:
            yield Elementwise(operation.activation)
    if placement == "after":
        yield from _elementwise(block.entry)


def _layer(operation: Operation) -> Iterator[nn.Module]:
    match operation.kind:
        case "linear":
            yield LinearInverse(operation.output_shape[-1], operation.input_shape[-1])
        case "conv":
            yield ConvInverse(operation)
        case "conv_transpose":
            yield ConvTransposeInverse(operation)
        case "einsum":
            yield EinsumInverse(operation)
        case "unfold":
            yield Fold(operation)
        case "pool":
            yield NearestUpsample(operation.input_shape[2:])
        case "reshape":
            yield Reshape(operation.input_shape[1:])
        case "permute":
            yield Permute([operation.dims.index(d) for d in range(len(operation.dims))])


def _elementwise(activation: Activation | None) -> Iterator[nn.Module]:
    if activation is not None:
        yield Elementwise(activation)


def _dense(block: Block, placement: Placement, auxiliary: int) -> Iterator[nn.Module]:
    before, after = block.input_shape[1:], block.output_shape[1:]
    if placement == "before":
        yield from _elementwise(range_of(block.operations))
    if len(before) == 2 == len(after) and before[0] == after[0] and not auxiliary:
        yield LinearInverse(after[1], before[1])  # tokens: each by itself
    else:
        outputs, inputs = math.prod(after) + auxiliary, math.prod(before)
        if outputs * inputs > LARGEST_DENSE:
            raise _too_large(block, outputs * inputs)
        yield nn.Flatten()
        yield LinearInverse(outputs, inputs)
        yield Reshape(before)
    if placement == "after":
        yield from _elementwise(block.entry)


def _too_large(block: Block, weights: int) -> RuleError:
    cause = next(o for o in (*block.operations, None) if o is None or o.kind == "other")
    name = "its auxiliary units" if cause is None else f"{cause.name}() in it"
    return RuleError(
        f"block '{block.name}' has no inverse of a reasonable size",
        notes=[f"{name} cannot be mirrored, and a dense inverse would have {weights:,} weights"],
        help="give one with: inverse: file.py:make_inverse, or choose other blocks with blocks:",
    )


def _checked(module: object, block: Block, auxiliary: int) -> nn.Module:
    """Product of a user's factory, tried on a batch of zeros."""
    if not isinstance(module, nn.Module):
        raise RuleError(
            f"the inverse of block '{block.name}' is {type(module).__name__}, not a torch.nn.Module"
        )
    shape = list(block.output_shape[1:])
    shape[-1] += auxiliary
    training = module.training
    with torch.no_grad():
        found = tuple(module.eval()(torch.zeros(2, *shape)).shape)
    module.train(training)
    _check_shape(found, (2, *block.input_shape[1:]), block)
    return module


def _check_shape(found: Sequence[int], wanted: Sequence[int], block: Block) -> None:
    if found != wanted:
        raise RuleError(
            f"the inverse of block '{block.name}' returns the shape {found}, not {wanted}",
            notes=[f"it goes from {block.output_shape[1:]} to {block.input_shape[1:]} per sample"],
        )
