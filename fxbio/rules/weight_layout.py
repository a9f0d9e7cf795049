"""Dimensions of a weight that are groups, outputs and inputs, by the kind of operation."""

from __future__ import annotations

from typing import NamedTuple

from fxbio.site import OpKind

__all__ = ["WeightLayout", "weight_layout"]


class WeightLayout(NamedTuple):
    """Each group of a weight is a matrix from inputs to outputs."""

    split: tuple[int, ...]
    """Shape of the weight with its groups in a dimension of their own."""
    groups: tuple[int, ...]
    """Dimensions of ``split``, as the other two."""
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    """With the taps of a kernel."""

    @property
    def axes(self) -> tuple[tuple[int, ...], ...]:
        """Groups, outputs, inputs."""
        return self.groups, self.outputs, self.inputs


def weight_layout(
    op: OpKind,
    shape: tuple[int, ...],
    groups: int,
    summed: tuple[int, ...],
    produced: tuple[int, ...],
) -> WeightLayout:
    """The layout of a weight.

    Args:
        op: what applies it.
        shape: its shape, or that of a parameter of which it is a part.
        groups: of a convolution.
        summed: of a ``matmul``: the dimensions that are summed over, counted from the end.
        produced: of a ``matmul``: the dimensions that the result gains.
    """
    if op == "norm":
        return WeightLayout(shape, tuple(range(len(shape))), (), ())
    if op == "embedding":
        return WeightLayout(shape, (), (1,), (0,))
    if op == "linear":
        return WeightLayout(shape, (), (0,), (1,))
    if op == "matmul":
        outputs, inputs = (tuple(d % len(shape) for d in dims) for dims in (produced, summed))
        rest = tuple(d for d in range(len(shape)) if d not in outputs + inputs)
        return WeightLayout(shape, rest, outputs, inputs)
    split = (groups, shape[0] // groups, *shape[1:])
    taps = tuple(range(3, len(split)))
    if op.startswith("conv_transpose"):
        return WeightLayout(split, (0,), (2,), (1, *taps))
    return WeightLayout(split, (0,), (1,), (2, *taps))
