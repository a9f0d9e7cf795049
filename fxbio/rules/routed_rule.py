"""Rules whose layers get their error from elsewhere: where from, and where it enters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from fxbio.errors import RuleError
from fxbio.rules.learning_rule import Rule
from fxbio.rules.option_checks import check_word, names
from fxbio.rules.weight_info import WeightInfo
from fxbio.site import OP_KINDS, OpKind

__all__ = ["ConvGeometry", "Point", "ReceiverInfo", "RoutedRule"]

Point = Literal["activation", "input", "block"]
"""Where the error is injected: behind the first nonlinearity after the layer, at the input of the
layer (whose own weight then learns from what comes from above), or behind a whole block."""


@dataclass(frozen=True)
class ConvGeometry:
    """Of the convolution whose input is the receiver."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    """Padding in front, by dimension."""
    after: tuple[int, ...]
    """Padding behind."""
    dilation: tuple[int, ...]


@dataclass(frozen=True)
class ReceiverInfo:
    """Properties of a receiver and of the error that is sent to it, for rules."""

    name: str
    """Path of the layer or block."""
    source: str
    """Path of the module whose output's error is sent; empty for the model's output."""
    shape: tuple[int, ...]
    """Of the tensor that receives the error, batch first."""
    channel_dim: int
    """The dimension of its channels: 1, or -1."""
    classes: int
    """Number of features of the error."""
    leading: int
    """How many leading dimensions the error shares with it; 1 for the batch alone."""
    largest: int
    """Entries of the largest receiver of the same source."""
    error_dims: int = 2
    """Number of dimensions of the error, before it is summed over positions."""
    conv: ConvGeometry | None = None
    """Of a convolution that receives at its input."""

    @property
    def entries(self) -> int:
        """Number of entries that one error vector is projected to."""
        return math.prod(self.shape[self.leading :])


@dataclass(frozen=True)
class RoutedRule(Rule):
    """Base of two families. The fields say where the error comes from and where it goes."""

    ops: ClassVar[tuple[OpKind, ...]] = tuple(op for op in OP_KINDS if op != "norm")
    needs_labels: ClassVar[bool] = False
    """Whether it is the labels that are sent, recovered from the error."""

    at: Point = "activation"
    """Where the error is injected: activation (behind the nonlinearity that follows the layer, or
    in front of the next layer if none comes before it), input (of the layer, with skip: sum), or
    block."""
    block: str = ""
    """With ``at: block``: glob of the modules behind whose output the error is injected."""
    source: tuple[str, ...] = ()
    """Modules whose outputs' errors are sent, for instance the heads of a detector; by default the
    output of the model."""
    skip: Literal["cut", "sum"] = "cut"
    """What else reads the tensor that receives the error, as a residual connection does: cut lets
    nothing back from there, sum adds it, and only the layers of such rules send nothing back."""

    def __post_init__(self) -> None:
        check_word("at", self.at, get_args(Point))
        check_word("skip", self.skip, ("cut", "sum"))
        object.__setattr__(self, "source", names("source", self.source))
        if (self.at == "block") != bool(self.block):
            raise RuleError(
                "'at: block' and 'block' go together",
                option="block" if self.block else "at",
                help='for instance: with: {at: block, block: "encoder.layers.*"}',
            )
        if self.at == "input" and self.skip == "cut":
            raise RuleError(
                "at the input of a layer the error can only be added to that of other readers",
                option="at",
                help="write skip: sum beside at: input, or choose at: activation to cut them off",
            )
        if self.at == "block" and self.skip == "sum":
            raise RuleError(
                "behind a block everything is cut off",
                option="skip",
                help="drop skip: sum, or choose at: activation or at: input",
            )

    def in_words(self) -> str:
        source = f"the outputs of {', '.join(self.source)}" if self.source else "the model's output"
        where = {
            "activation": "behind the nonlinearity that follows each layer",
            "input": "at the input of each layer",
            "block": f"behind each {self.block}",
        }[self.at]
        rest = "nothing else is sent back" if self.skip == "cut" else "residual connections add up"
        return f"{self._sent()} {source} arrives {where}; {rest} there"

    def _sent(self) -> str:
        """Error that arrives at a receiver, in words, with a source behind them."""
        raise NotImplementedError(f"rule '{self.name}' does not say what it sends")

    def drawn_by(self, receiver: ReceiverInfo) -> str:
        """Key that feedback is drawn by, besides the seed; receivers may share it."""
        return f"{receiver.name} <- {receiver.source}" if receiver.source else receiver.name

    @property
    def mean_loss(self) -> bool:
        """True if the loss is the mean over the batch, where that matters."""
        return True

    @property
    def fixes_size(self) -> bool:
        """True if its feedback fits receivers of one size only."""
        return False

    def unserved(self, receiver: ReceiverInfo) -> str | None:
        """Reason why this rule cannot serve a receiver, or ``None`` when it can."""
        if self.needs_labels and receiver.error_dims != 2:
            return "labels are recovered from the error of an output of shape (N, K) alone"
        return None

    def unscalable(self) -> str | None:
        if not self.needs_labels:
            return None
        return "the labels are recovered from the error as it is"

    def unsupported(self, info: WeightInfo) -> str | None:
        if info.op == "norm":
            return f"rule '{self.name}' speaks of whole layers; scales of norms learn along"
        if info.op == "embedding" and self.at == "input":
            return "the input of an embedding are indices, which receive no error"
        return super().unsupported(info)
