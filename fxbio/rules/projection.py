"""Projections: how the error of the output becomes an error at a layer far below it.

Each is written to its spec string and back, since the op that uses it takes strings. With the
error ``e`` of the output, (N, K) for a batch of N, and a receiver of shape (N, F…):

============ ================ =====================================================================
projection   feedback B       error at the receiver
============ ================ =====================================================================
``dense``    (K, ΠF)          ``e B`` in the shape of the receiver
``shared``   (K, M), M ≥ ΠF   as dense, with the leading ΠF columns of one matrix for all layers
``channel``  (K, C)           ``e B`` at every position, divided by the number of positions
``conv``     (K, C, k…)       transposed convolution of ``e``, repeated at every output position
============ ================ =====================================================================

Where the error has the leading dimensions of the receiver (a token model), ``dense`` and
``channel`` work position by position.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache

import torch
from torch import Tensor

from fxbio.rules.spec import format_spec, parse_spec

__all__ = ["Channel", "Conv", "Dense", "Projection", "feature_error", "parse_projection"]


@dataclass(frozen=True)
class Projection:
    """A linear map from the error of the output to the error of a receiver."""

    def project(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """The error at a receiver.

        Args:
            error: (N, K), or (N, T…, K) where the receiver has these leading dimensions.
            feedback: B.
            shape: of the receiver.
        """
        raise NotImplementedError

    def spec(self) -> str:
        """The projection as a string."""
        return format_spec(type(self).__name__.lower(), asdict(self))


@dataclass(frozen=True)
class Dense(Projection):
    """A matrix with a column for every entry of the receiver; a shared one may have more."""

    def project(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """``e B``."""
        size = math.prod(shape[error.dim() - 1 :])
        return (error @ feedback[:, :size]).reshape(shape)


@dataclass(frozen=True)
class Channel(Projection):
    """One error for each channel, the same at every position."""

    dim: int
    """Dimension of the receiver that holds the channels; -1 for the last."""

    def project(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """``e B`` at every position, divided by the number of positions."""
        lead = error.dim() - 1
        by_channel = error @ feedback
        positions = math.prod(shape[lead:]) // shape[self.dim]
        spread = [1] * len(shape)
        spread[:lead] = shape[:lead]
        spread[self.dim] = shape[self.dim]
        return (by_channel / positions).reshape(spread).expand(shape)


@dataclass(frozen=True)
class Conv(Projection):
    """Feedback shaped like the kernel of the convolution whose input receives the error.

    BioTorch repeats ``e`` over the output of the layer and sends it through a transposed
    convolution. Since the repeated error is constant over space, each tap of the kernel gives one
    product ``e B``, and a position adds up the taps that reach it: nothing of the size
    N × K × positions is ever made.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    outputs: tuple[int, ...]
    """Output size of the layer."""

    def project(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """``Σ_taps e B[tap]`` over the taps that reach a position."""
        taps = error @ feedback.flatten(1)
        result = taps.reshape(error.shape[0], *feedback.shape[1:])
        for d, inputs in enumerate(shape[2:]):
            reach = self._reach(d, inputs, feedback.shape[2 + d]).to(result)
            result = torch.tensordot(result, reach, dims=([2], [1]))
        return result

    def _reach(self, d: int, inputs: int, kernel: int) -> Tensor:
        """(inputs, kernel): 1 where an output reads that input through that tap."""
        position = torch.arange(inputs).unsqueeze(1) + self.padding[d]
        from_tap = position - self.dilation[d] * torch.arange(kernel)
        output = from_tap // self.stride[d]
        exact = from_tap % self.stride[d] == 0
        return exact & (output >= 0) & (output < self.outputs[d])


_KINDS: dict[str, type[Projection]] = {c.__name__.lower(): c for c in (Dense, Channel, Conv)}


@cache
def parse_projection(spec: str) -> Projection:
    """The projection that ``spec`` wrote."""
    name, options = parse_spec(spec)
    return _KINDS[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})


def feature_error(error: Tensor, receiver: torch.Size) -> Tensor:
    """The error with its features last, and only the leading dimensions that the receiver shares.

    An error with more than two dimensions has its features in the second one if it is that of an
    image, (N, K, H, W), and in the last one otherwise. What the receiver does not share is summed.
    """
    if error.dim() > 3:
        error = error.movedim(1, -1)
    inner = error.shape[1:-1]
    if len(receiver) == error.dim() and receiver[1:-1] == inner:
        return error
    return error.flatten(1, -2).sum(1) if inner else error
