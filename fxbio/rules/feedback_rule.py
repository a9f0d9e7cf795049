"""Rules of the asymmetric-feedback family: a matrix of their own carries the error back.

Such a rule changes one thing. With ``a = W h`` and ``δ = ∂L/∂a``, backprop sends ``Wᵀδ`` to the
layer below; a rule sends ``Bᵀδ``, where ``B`` has the shape of ``W``. The gradients of the weight
and of the bias stay ``δ hᵀ`` and ``Σ δ`` whatever the rule. It says how ``B`` is made by one
method::

    @rule("ternary")
    @dataclass(frozen=True)
    class Ternary(FeedbackRule):
        \"\"\"Signs of the weights that are larger than average.\"\"\"

        def feedback(self, weight, drawn):
            return weight.sign() * (weight.abs() > weight.abs().mean())
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from fxbio.errors import RuleError
from fxbio.files.fields import Mark
from fxbio.rules.learning_rule import Family, Rule
from fxbio.rules.weight_info import WeightInfo
from fxbio.site import OpKind

__all__ = ["WATCHED_OPS", "FeedbackRule"]

WATCHED_OPS: tuple[OpKind, ...] = ("linear", "conv1d", "conv2d", "conv3d")
"""Operations whose inputs a loss on activity can look at."""

TRANSFORMED_OPS: tuple[OpKind, ...] = (
    "linear",
    "matmul",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
)
"""Operations whose error can be transformed."""

_OPTIONAL = ("draw", "learned", "local_gradient", "activity_loss", "redraw")
"""Methods whose presence decides what is kept and called for a rule."""


@dataclass(frozen=True)
class FeedbackRule(Rule):
    """Base of rules for the way of the error back across a linear operation.

    The weight is handed to a rule in the layout in which the operation uses it; ``B`` has the
    same shape, dtype and device.
    """

    family: ClassVar[Family] = "asymmetric"
    passes_error: ClassVar[bool] = True
    """False where no error is sent below the site."""
    trains_weight: ClassVar[bool] = True
    """False where the weight gets no gradient at all."""
    remembers: ClassVar[bool] = False
    """Whether what is drawn comes of the past, not of a seed alone: the ``state_dict`` has it."""
    tied: ClassVar[bool] = False
    """Whether the feedback weight gets the gradient of the forward weight."""
    defines: ClassVar[frozenset[str]] = frozenset()
    """The optional methods that the class defines; set when the class is made."""
    draws: ClassVar[bool] = False
    """Whether it has a ``draw()``, whose result is kept as a buffer; set as ``defines``."""
    learns: ClassVar[bool] = False
    """Whether it has a ``learned()``, whose result is kept as a parameter; set as ``defines``."""

    error: Annotated[tuple[str, ...], Mark.UNWRITTEN] = field(default=(), kw_only=True)
    """Specs of the transforms of the error at each of its sites; see ``fxbio.transforms``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = (name for name in _OPTIONAL if getattr(cls, name) is not vars(FeedbackRule)[name])
        cls.defines = frozenset(own)
        cls.draws, cls.learns = "draw" in cls.defines, "learned" in cls.defines

    def with_error(self, error: tuple[str, ...]) -> FeedbackRule:
        """The rule with error transforms at each of its sites."""
        return replace(self, error=error)

    def options(self) -> dict[str, Any]:
        """As of every rule, and ``error`` behind them where it has transforms."""
        options = super().options()
        error = options.pop("error")
        return options | ({"error": error} if error else {})

    @classmethod
    def memory(cls) -> str:
        if cls.learns:
            return "a parameter of the size of W"
        return "a copy of the size of W" if cls.draws else ""

    @classmethod
    def check_class(cls) -> None:
        """An audit sees what errors meet, and must be told where that is a copy of the weight."""
        super().check_class()
        given = [name for name in ("local_gradient", "redraw") if name in cls.defines]
        own = cls.__mro__[: cls.__mro__.index(FeedbackRule)]
        if given and not any("transports" in vars(base) for base in own):
            raise RuleError(
                f"rule '{cls.name}' does not say what its feedback takes over from the forward "
                "weight",
                notes=[f"{given[0]}() of {cls.__name__} is given the weight"],
                help='write in the class: transports = "copies", or transports = "none" if the '
                "entries of the weight do not get into the feedback that way",
            )

    def feedback(self, weight: Tensor, drawn: Tensor | None) -> Tensor:
        """``B`` up to ``scale``, in the shape of ``weight``, evaluated in the backward pass.

        By default what was drawn or learned, as it is.

        Args:
            weight: the forward weight as it was used, any floating dtype.
            drawn: what ``draw`` returned, or ``path`` where the rule learns, in the dtype of
                ``weight``; ``None`` without either.

        Raises:
            RuleError: when there is neither, and the rule does not define this method.
        """
        if drawn is None:
            raise RuleError(
                f"rule '{self.name}' does not say what carries the error back",
                help=f"define feedback(), draw() or learned() in {type(self).__name__}",
            )
        return drawn

    def draw(self, weight: Tensor, info: WeightInfo, generator: torch.Generator) -> Tensor | None:
        """The fixed or random part of the feedback, made once when the model is transformed.

        Args:
            weight: the forward weight, on the CPU, for its shape and dtype.
            info: fan-in, fan-out and operation of the weight.
            generator: CPU generator seeded from ``(seed, name of the weight)``.

        Returns:
            A tensor of the shape of ``weight``, of any shape if the rule learns.
        """
        return None

    def learned(
        self, weight: Tensor, info: WeightInfo, generator: torch.Generator
    ) -> Tensor | None:
        """The initial value of the part of the feedback that learns; arguments as for ``draw``.

        It becomes a parameter, which the user's own optimizer trains. Its gradient is that of the
        weight under a rule that is ``tied``, else that of ``activity_loss``, sent through
        ``path`` by the chain rule; and ``local_gradient``.
        """
        return None

    def learns_by_gradient(self) -> bool:
        """True if the parameter learns in the backward pass, and not by explicit calls alone."""
        return self.learns

    def path(self, learned: Tensor, drawn: Tensor | None, info: WeightInfo) -> Tensor:
        """The feedback weight up to ``scale``, from what is learned and what was drawn.

        Torch functions evaluate it in the forward pass, with no shapes but those of ``info``.
        """
        return learned

    def local_gradient(
        self, weight: Tensor, learned: Tensor, info: WeightInfo, generator: torch.Generator
    ) -> Tensor | None:
        """Gradient of a loss on weights alone, added once for each update of the weights.

        Args:
            weight: the forward weight at present.
            learned: the parameter.
            info: as for ``draw``.
            generator: CPU generator seeded from ``(seed, name of the weight, updates so far)``.
        """
        return None

    def watched_share(self) -> float:
        """Share of the positions of its input that ``activity_loss`` looks at; 0 without one."""
        return 1.0 if "activity_loss" in self.defines else 0.0

    def activity_loss(self, x: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
        """A loss on what the layer does to its input, which trains the feedback weight.

        Args:
            x: (groups, n, in), inputs of the layer, or patches of them, at ``n`` positions.
            weight: (groups, out, in), the forward weight as matrices.
            feedback: (groups, out, in), the feedback weight, which alone gets a gradient.
        """
        raise NotImplementedError(f"rule '{self.name}' does not define activity_loss()")

    def scale(self, weight: Tensor, info: WeightInfo) -> float:
        """The constant that multiplies ``feedback``, fixed when the model is transformed."""
        return 1.0

    def reads_weight(self) -> bool:
        """True if it looks at the weight outside of the forward pass, not only at its shape."""
        return False

    def redraw_period(self) -> int:
        """Number of optimizer steps after which ``redraw`` is called; 0 for never."""
        return 0

    def redraw(
        self, weight: Tensor, feedback: Tensor, info: WeightInfo, generator: torch.Generator
    ) -> Tensor:
        """Feedback after a renewal; by default, drawn anew.

        Args:
            weight: the forward weight at present, or any of its shape unless ``reads_weight()``.
            feedback: what was drawn or learned so far.
            info: as for ``draw``.
            generator: as for ``draw``, for this turn.
        """
        drawn = self.draw(weight, info, generator)
        assert drawn is not None
        return drawn

    def unsupported(self, info: WeightInfo) -> str | None:
        reason = super().unsupported(info)
        if reason is None and self.error and info.op not in TRANSFORMED_OPS:
            return f"error transforms serve {', '.join(TRANSFORMED_OPS)}, not {info.op}"
        if reason is None and info.op == "embedding" and self.passes_error and self.trains_weight:
            return (
                f"rule '{self.name}' is about the error below, and below an embedding are indices; "
                "it can have bp, frozen, stop, or a rule that routes errors, as dfa"
            )
        if reason is None and self.watched_share() and info.op not in WATCHED_OPS:
            return f"activity_loss() sees the inputs of {', '.join(WATCHED_OPS)}, not of {info.op}"
        return reason

    def unscalable(self) -> str | None:
        if self.tied or not self.learns_by_gradient():
            return None
        return "its feedback learns from a loss of its own, which is not scaled"
