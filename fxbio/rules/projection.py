"""Projections: how the error of the output becomes an error at a layer far below it.

Each is written to its spec string and back, since the op that uses it takes strings. With the
error ``e`` of the output, (N, K) for a batch of N, and a receiver of shape (N, F…):

============ ================ =====================================================================
projection   feedback B       error at the receiver
============ ================ =====================================================================
``dense``    (K, ΠF)          ``e B`` in the shape of the receiver
``shared``   (K, M), M ≥ ΠF   ``s e B`` with the leading ΠF columns of one matrix for all layers
``channel``  (K, C)           ``e B`` at every position, divided by the number of positions
``conv``     (K, C, k…)       transposed convolution of ``e``, repeated at every output position
============ ================ =====================================================================

Where the error has the leading dimensions of the receiver (a token model), the first three work
position by position.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fxbio.errors import ModelError
from fxbio.rules.spec import format_spec, parse_spec

__all__ = [
    "Channel",
    "Conv",
    "Dense",
    "Projection",
    "Shared",
    "feature_error",
    "parse_projection",
]


@dataclass(frozen=True)
class Projection:
    """A linear map from the error of the output to the error of a receiver."""

    leading: int = 1
    """How many leading dimensions the error shares with the receiver; 1 for the batch alone."""

    def project(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """The error at a receiver.

        Args:
            error: (N, K), or (N, T…, K) where the receiver has these leading dimensions.
            feedback: B.
            shape: of the receiver.
        """
        raise NotImplementedError

    def wanted(self, feedback: torch.Size, shape: torch.Size) -> bool:
        """True if B fits a receiver of that shape."""
        raise NotImplementedError

    def check(self, name: str, feedback: torch.Size, shape: torch.Size) -> None:
        """Raise ``ModelError`` unless B fits the receiver."""
        if self.wanted(feedback, shape):
            return
        raise ModelError(
            f"the feedback matrix {tuple(feedback)} of '{name}' does not fit what receives there: "
            f"{tuple(shape)}",
            notes=["it was made for the shape that the example inputs gave"],
            help="transform with example inputs of this size, or choose 'projection: channel', "
            "which fits every size",
        )

    def spec(self) -> str:
        """The projection as a string."""
        return format_spec(type(self).__name__.lower(), asdict(self))


@dataclass(frozen=True)
class Dense(Projection):
    """A matrix with a column for every entry of the receiver."""

    def project(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """``e B``."""
        return (error @ feedback).reshape(shape)

    def wanted(self, feedback: torch.Size, shape: torch.Size) -> bool:
        return feedback[1] == math.prod(shape[self.leading :])


@dataclass(frozen=True)
class Shared(Projection):
    """The leading columns of a matrix that all receivers share."""

    scale: float = 1.0
    """What this receiver multiplies the matrix by."""

    def project(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """``s e B``."""
        columns = feedback[:, : math.prod(shape[self.leading :])]
        return (error @ columns * self.scale).reshape(shape)

    def wanted(self, feedback: torch.Size, shape: torch.Size) -> bool:
        return feedback[1] >= math.prod(shape[self.leading :])


@dataclass(frozen=True)
class Channel(Projection):
    """One error for each channel, the same at every position."""

    dim: int = 1
    """Dimension of the receiver that holds the channels; -1 for the last."""

    def project(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """``e B`` at every position, divided by the number of positions."""
        by_channel = error @ feedback
        positions = math.prod(shape[self.leading :]) // shape[self.dim]
        spread = [1] * len(shape)
        spread[: self.leading] = shape[: self.leading]
        spread[self.dim] = shape[self.dim]
        return (by_channel / positions).reshape(spread).expand(shape)

    def wanted(self, feedback: torch.Size, shape: torch.Size) -> bool:
        return feedback[1] == shape[self.dim]


@dataclass(frozen=True)
class Conv(Projection):
    """Feedback shaped like the kernel of the convolution whose input receives the error.

    BioTorch repeats ``e`` over the output of the layer and sends it through a transposed
    convolution. Since the repeated error is constant over space, each tap of the kernel gives one
    product ``e B``, and a position adds up the taps that reach it: nothing of the size
    N × K × positions is ever made. Groups are ignored, and what a layer pads with counts as zeros.
    """

    stride: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    """Padding in front, by dimension."""
    after: tuple[int, ...] = ()
    """Padding behind."""
    dilation: tuple[int, ...] = ()

    def project(self, error: Tensor, feedback: Tensor, shape: torch.Size) -> Tensor:
        """``Σ_taps e B[tap]`` over the taps that reach a position."""
        taps = error @ feedback.flatten(1)
        result = taps.reshape(error.shape[0], *feedback.shape[1:])
        for d, inputs in enumerate(shape[2:]):
            reach = self._reach(d, inputs, feedback.shape[2 + d], result.device).to(result.dtype)
            result = torch.tensordot(result, reach, dims=([2], [1]))
        return result

    def wanted(self, feedback: torch.Size, shape: torch.Size) -> bool:
        return feedback[1] == shape[1] and len(feedback) == len(shape)

    def _reach(self, d: int, inputs: int, kernel: int, device: torch.device) -> Tensor:
        """(inputs, kernel): true where an output reads that input through that tap."""
        span = self.dilation[d] * (kernel - 1)
        outputs = (inputs + self.before[d] + self.after[d] - span - 1) // self.stride[d] + 1
        position = torch.arange(inputs, device=device).unsqueeze(1) + self.before[d]
        from_tap = position - self.dilation[d] * torch.arange(kernel, device=device)
        output = from_tap // self.stride[d]
        exact = from_tap % self.stride[d] == 0
        return exact & (output >= 0) & (output < outputs)


_KINDS: dict[str, type[Projection]] = {
    cls.__name__.lower(): cls for cls in (Dense, Shared, Channel, Conv)
}


@cache
def parse_projection(spec: str) -> Projection:
    """The projection that ``spec`` wrote."""
    name, options = parse_spec(spec)
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
    }
    return _KINDS[name](**values)


def feature_error(error: Tensor, leading: int) -> Tensor:
    """The error with its features last, and only the leading dimensions that the receiver shares.

    An error with more than three dimensions has its features in the second one, (N, K, H, W), and
    any other in the last one. What the receiver does not share is summed.
    """
    if error.dim() > 3:
        error = error.movedim(1, -1)
    return error if error.dim() == leading + 1 else error.flatten(1, -2).sum(1)
