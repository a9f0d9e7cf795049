"""Direct feedback: fixed random matrices carry the output's error, or its labels, to each layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from fxbio.errors import RuleError
from fxbio.rules.broadcast_rule import BroadcastRule
from fxbio.rules.learning_rule import rule
from fxbio.rules.option_checks import check_share, check_size, check_word
from fxbio.rules.projection import Channel, Conv, Dense, Projection, Shared
from fxbio.rules.routed_rule import ReceiverInfo
from fxbio.rules.weight_info import WeightInfo

__all__ = ["DirectFeedback", "DirectRandomTargets"]

Kind = Literal["dense", "shared", "channel", "conv", "sparse"]
Convention = Literal["nokland", "launay-2019", "launay-2020", "biotorch-xavier", "biotorch-kaiming"]


@rule("dfa", aliases=("direct-feedback-alignment",))
@dataclass(frozen=True)
class DirectFeedback(BroadcastRule):
    """``δ = B e``: a fixed random ``B`` carries the error ``e`` of the output to the layer.

    The layers between receive nothing from each other, so no gradient is computed that nobody
    uses. The last layer, which the error reaches without a receiver, learns from it exactly.
    To a layer of another rule below, the lowest of them sends its error on through its own weight,
    as backprop does; with ``at: input``, ``B e`` takes the place of that.

    ================ ==============================================================
    init             entries of B, for F columns of B and K classes of the error
    ================ ==============================================================
    nokland          uniform within ``±1/√F``
    launay-2019      normal, variance ``1/(F K)``
    launay-2020      uniform within ``±1``, divided by ``√F_max`` of all receivers
    biotorch-xavier  uniform, variance ``2/((K + C) k²)``, as Xavier's of that shape
    biotorch-kaiming uniform, variance ``1/(3 C k²)``
    a number         normal with that deviation
    ================ ==============================================================

    F is the number of entries of the receiver, or of its channels with ``projection: channel``.
    """

    paper: ClassVar[str] = "Nøkland 2016, arXiv 1609.01596; Launay et al. 2020, arXiv 2006.12878"

    projection: Kind = "dense"
    """Shape of B: dense; shared (one matrix, each layer takes its leading columns); channel (one
    error per channel, the same everywhere); conv (shaped like the layer's kernel, with at: input);
    sparse (dense with zeros)."""
    init: Convention | float = "nokland"
    """Size of the entries of B: nokland, launay-2019, launay-2020, biotorch-xavier,
    biotorch-kaiming, or a number."""
    density: float = 0.1
    """Share of the entries of a sparse B that are not zero."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("projection", self.projection, get_args(Kind))
        if isinstance(self.init, str):
            check_word("init", self.init, get_args(Convention))
        else:
            check_size("init", self.init)
        check_share("density", self.density)
        if self.projection == "conv" and self.at != "input":
            raise RuleError(
                "feedback shaped like a kernel belongs to the input of its layer",
                option="projection",
                help="write: {projection: conv, at: input, skip: sum}",
            )

    def drawn_by(self, receiver: ReceiverInfo) -> str:
        if self.projection != "shared":
            return super().drawn_by(receiver)
        return f"shared by {receiver.largest} <- {receiver.source}"

    def matrix(self, receiver: ReceiverInfo, generator: torch.Generator) -> Tensor:
        """B: (K, F), (K, C) or (K, C, k…)."""
        columns = self._columns(receiver)
        shape = (receiver.classes, *columns)
        size = self._size(receiver, columns)
        if self._normal:
            drawn = torch.randn(shape, generator=generator) * size
        else:
            drawn = (torch.rand(shape, generator=generator) * 2 - 1) * size
        if self.projection == "sparse":
            drawn *= torch.rand(shape, generator=generator) < self.density
        return drawn

    def carrier(self, receiver: ReceiverInfo) -> Projection:
        leading, geometry = receiver.leading, receiver.conv
        if self.projection == "conv" and geometry is not None:
            sides = (geometry.before, geometry.after)
            return Conv(leading, geometry.stride, *sides, geometry.dilation)
        if self.projection in ("channel", "conv"):
            return Channel(leading, receiver.channel_dim)
        if self.projection == "shared":
            own = self._size(receiver, (receiver.entries,))
            return Shared(leading, own / self._size(receiver, (receiver.largest,)))
        return Dense(leading)

    @property
    def fixes_size(self) -> bool:
        return self.projection in ("dense", "sparse", "shared")

    def unsupported(self, info: WeightInfo) -> str | None:
        if self.projection == "conv" and info.op.startswith("conv_transpose"):
            return "feedback shaped like a kernel is defined for convolutions and linear layers"
        return super().unsupported(info)

    def _columns(self, receiver: ReceiverInfo) -> tuple[int, ...]:
        channels = receiver.shape[receiver.channel_dim]
        match self.projection:
            case "shared":
                return (receiver.largest,)
            case "conv":
                return (channels, *(receiver.conv.kernel if receiver.conv else ()))
            case "channel":
                return (channels,)
            case "dense" | "sparse":
                return (receiver.entries,)

    @property
    def _normal(self) -> bool:
        return self.init == "launay-2019" or not isinstance(self.init, str)

    def _size(self, receiver: ReceiverInfo, columns: tuple[int, ...]) -> float:
        """Bound of the uniform, or deviation of the normal distribution."""
        if not isinstance(self.init, str):
            return float(self.init)
        classes, entries, taps = receiver.classes, math.prod(columns), math.prod(columns[1:])
        match self.init:
            case "nokland" | "biotorch-kaiming":
                return 1 / math.sqrt(entries)
            case "launay-2019":
                return 1 / math.sqrt(entries * classes)
            case "launay-2020":
                return 1 / math.sqrt(receiver.largest)
            case "biotorch-xavier":
                return math.sqrt(6 / (entries + classes * taps))


@rule("drtp", aliases=("direct-random-target-projection",))
@dataclass(frozen=True)
class DirectRandomTargets(DirectFeedback):
    """``δ = B y``: as ``dfa``, with the labels ``y`` in the place of the error.

    The labels are recovered from the error of a softmax cross-entropy, ``y = softmax(a) − N e``,
    so the loss stays the user's own; they are sent with the weight of one sample, ``1/N``.
    """

    paper: ClassVar[str] = "Frenkel et al. 2021, Frontiers in Neuroscience 15:629892"
    needs_labels: ClassVar[bool] = True

    reduction: Literal["mean", "sum"] = "mean"
    """How the loss adds up the batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("reduction", self.reduction, ("mean", "sum"))

    @property
    def mean_loss(self) -> bool:
        return self.reduction == "mean"
