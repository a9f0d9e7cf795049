"""Locally connected layers: convolutions without weight sharing, one weight per position.

The weight is applied by an ``einsum`` on the raw parameter, which fxbio knows as a site, so every
rule works on these layers. Of five forms that were timed on the MNIST and CIFAR layers of Bartunov
et al. 2018 on one CPU thread, this one took at most 1.4 times as long as the fastest at each size;
with the weight as (position, channel, patch) it took up to 3 times as long.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxbio.errors import ModelError

__all__ = ["LocallyConnected1d", "LocallyConnected2d"]

Size: TypeAlias = tuple[int, ...]


class _LocallyConnected(nn.Module):
    """Base of both layers; they differ in the number of spatial dimensions."""

    dimensions: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: int | Size,
        kernel_size: int | Size,
        stride: int | Size = 1,
        padding: int | Size = 0,
        dilation: int | Size = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.input_size = self._size(input_size)
        self.kernel_size = self._size(kernel_size)
        self.stride, self.padding = self._size(stride), self._size(padding)
        self.dilation = self._size(dilation)
        self.output_size = self._output_size()
        positions, fan_in = math.prod(self.output_size), in_channels * math.prod(self.kernel_size)
        self.weight = nn.Parameter(torch.empty(positions, fan_in, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels, *self.output_size)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw from ``U(−1/√n, 1/√n)``, n the size of a patch, as ``nn.Conv2d`` does."""
        bound = self.weight.shape[1] ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """``y[n, o, l] = Σ_k patch[n, k, l] · W[l, k, o] + b[o, l]`` at each position ``l``.

        Args:
            x: (N, in_channels, *input_size).

        Returns:
            (N, out_channels, *output_size).

        Raises:
            ModelError: for an input of another shape.
        """
        self._check(x)
        out = torch.einsum("nkl,lko->nol", self._patches(x), self.weight)
        out = out.reshape(x.shape[0], self.out_channels, *self.output_size)
        return out if self.bias is None else out + self.bias

    def extra_repr(self) -> str:
        """The arguments, as ``nn.Conv2d`` prints them."""
        return (
            f"{self.in_channels}, {self.out_channels}, input_size={self.input_size}, "
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, bias={self.bias is not None}"
        )

    def _patches(self, x: Tensor) -> Tensor:
        """Input patches of all positions: (N, in_channels · ∏kernel_size, ∏output_size)."""
        raise NotImplementedError

    def _size(self, value: int | Size) -> Size:
        return (value,) * self.dimensions if isinstance(value, int) else tuple(value)

    def _output_size(self) -> Size:
        spans = zip(
            self.input_size, self.kernel_size, self.stride, self.padding, self.dilation, strict=True
        )
        size = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in spans)
        if min(size) < 1:
            raise ModelError(
                f"a kernel of {self.kernel_size} with dilation {self.dilation} does not fit into "
                f"an input of {self.input_size} with padding {self.padding}"
            )
        return size

    def _check(self, x: Tensor) -> None:
        expected = (self.in_channels, *self.input_size)
        if tuple(x.shape[1:]) != expected:
            raise ModelError(
                f"{type(self).__name__} was made for inputs (N, {', '.join(map(str, expected))}) "
                f"and got {tuple(x.shape)}",
                notes=["it has a weight for each position, so the input cannot have another size"],
                help=f"make it with input_size={tuple(x.shape[2:])}, or resize the input",
            )


class LocallyConnected1d(_LocallyConnected):
    """``nn.Conv1d`` with a weight of its own at each position.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        input_size: length of the input.
        kernel_size: length of a patch.
        stride: step from one patch to the next.
        padding: zeros on both sides.
        dilation: distance of the entries of a patch.
        bias: whether to add one number per channel and position.
    """

    dimensions = 1

    def _patches(self, x: Tensor) -> Tensor:
        kernel, dilation = (1, *self.kernel_size), (1, *self.dilation)
        return F.unfold(x.unsqueeze(2), kernel, dilation, (0, *self.padding), (1, *self.stride))


class LocallyConnected2d(_LocallyConnected):
    """``nn.Conv2d`` with a weight of its own at each position.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        input_size: height and width of the input, or one number for both; so are those below.
        kernel_size: size of a patch.
        stride: step from one patch to the next.
        padding: zeros on each side.
        dilation: distance of the entries of a patch.
        bias: whether to add one number per channel and position.
    """

    dimensions = 2

    def _patches(self, x: Tensor) -> Tensor:
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)
