"""What a rule is, and the registry of rules.

A rule of the asymmetric-feedback family changes one thing: the matrix that carries the error
back. With ``a = W h`` and ``δ = ∂L/∂a``, backprop sends ``Wᵀδ`` to the layer below; a rule sends
``Bᵀδ``, where ``B`` has the shape of ``W``. The gradients of the weight and of the bias stay
``δ hᵀ`` and ``Σ δ`` whatever the rule.

A rule is a frozen dataclass. Its fields are its options in the policy file, and it says how ``B``
is made by one method::

    @rule("ternary")
    @dataclass(frozen=True)
    class Ternary(Rule):
        \"\"\"Signs of the weights that are larger than average.\"\"\"

        def feedback(self, weight, drawn):
            return weight.sign() * (weight.abs() > weight.abs().mean())
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from fxbio.errors import RuleError, did_you_mean
from fxbio.rules.spec import format_spec
from fxbio.rules.weight_info import WeightInfo
from fxbio.site import OP_KINDS, OpKind

__all__ = [
    "Family",
    "Rule",
    "Transport",
    "available_rules",
    "find_rule",
    "make_rule",
    "rule",
]

Family = Literal["asymmetric", "broadcast", "target", "local"]
"""How the error travels: across each site through a feedback weight; from the output straight to
each layer; as targets through learned inverses; or from a loss of each block's own."""

Transport = Literal["weights", "signs", "copies", "none"]
"""What the backward path reads of the forward weights: their values, their signs, old copies of
them, or nothing."""


@dataclass(frozen=True)
class Rule:
    """How the error crosses a linear operation on its way back.

    The weight is handed to a rule in the layout in which the operation uses it; ``B`` has the
    same shape, dtype and device.
    """

    name: ClassVar[str] = ""
    """Name in the policy file; set by the ``rule`` decorator."""
    aliases: ClassVar[tuple[str, ...]] = ()
    paper: ClassVar[str] = ""
    """Where it was published."""
    family: ClassVar[Family] = "asymmetric"
    transports: ClassVar[Transport] = "none"
    calls: ClassVar[str] = ""
    """What a training loop calls besides ``backward()``; in brackets where it may be left out."""
    ops: ClassVar[tuple[OpKind, ...]] = OP_KINDS
    """Operations that it can serve."""
    rewrites: ClassVar[bool] = True
    """False for backprop: the site is left exactly as it is."""
    passes_error: ClassVar[bool] = True
    """False where no error is sent below the site."""
    trains_weight: ClassVar[bool] = True
    """False where the weight gets no gradient at all."""
    draws: ClassVar[bool] = False
    """Whether it has a ``draw()``, whose result is kept as a buffer; set by the decorator."""
    remembers: ClassVar[bool] = False
    """Whether that buffer comes of the past and not of a seed alone: the ``state_dict`` has it."""
    learns: ClassVar[bool] = False
    """Whether it has a ``learned()``, whose result is kept as a parameter; set by the decorator."""
    tied: ClassVar[bool] = False
    """Whether the feedback weight gets the gradient of the forward weight."""

    @classmethod
    def memory(cls) -> str:
        """What it needs besides the model, in words."""
        if cls.learns:
            return "a parameter of the size of W"
        return "a copy of the size of W" if cls.draws else ""

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
        """Whether the parameter learns in the backward pass, and not by explicit calls alone."""
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
        return 0.0

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
        """Whether it looks at the weight outside of the forward pass, not only at its shape."""
        return False

    def redraw_period(self) -> int:
        """Number of optimizer steps after which ``redraw`` is called; 0 for never."""
        return 0

    def redraw(
        self, weight: Tensor, feedback: Tensor, info: WeightInfo, generator: torch.Generator
    ) -> Tensor:
        """What the feedback becomes when it is due; by default, what is drawn anew.

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
        """Why this rule cannot serve such a weight, or ``None`` when it can."""
        if info.op not in self.ops:
            return f"rule '{self.name}' serves {', '.join(self.ops)}, not {info.op}"
        return None

    def unscalable(self) -> str | None:
        """Why it cannot learn from a loss that is scaled, as in float16, or ``None`` if it can."""
        if self.tied or not self.learns_by_gradient():
            return None
        return "its feedback learns from a loss of its own, which is not scaled"

    def in_words(self) -> str:
        """Where the error comes from, for rules that do not send it across their sites."""
        return ""

    def options(self) -> dict[str, Any]:
        """The options and their values, as they would stand under ``with:``."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def spec(self) -> str:
        """The rule and its options in one line, from which ``parse_spec`` makes it again."""
        return format_spec(self.name, self.options())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by name: the file of a plug-in need not be importable."""
        return make_rule, (self.name, self.options())

    def __str__(self) -> str:
        """As ``spec``, without the options that have their defaults."""
        changed = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        }
        return format_spec(self.name, changed)


R = TypeVar("R", bound=type[Rule])
_RULES: dict[str, type[Rule]] = {}


def rule(name: str, *, aliases: Iterable[str] = ()) -> Callable[[R], R]:
    """Class decorator that enters a rule into the registry under a name and its aliases.

    Raises:
        RuleError: when a name is taken by a class from elsewhere, and when the feedback may learn
            from the weight and the class does not say what it reads.
    """

    def register(cls: R) -> R:
        cls.name = name
        cls.aliases = tuple(aliases)
        cls.draws = cls.draw is not Rule.draw
        cls.learns = cls.learned is not Rule.learned
        _check_declared(cls)
        for key in (name, *cls.aliases):
            other = _RULES.get(key)
            if other is not None and _identity(other) != _identity(cls):
                raise RuleError(
                    f"two rules are called '{key}'",
                    notes=[f"{_identity(other)} and {_identity(cls)}"],
                    help="rename one of them",
                )
            _RULES[key] = cls
        return cls

    return register


def _check_declared(cls: type[Rule]) -> None:
    """An audit sees what errors meet, and must be told where that is a copy of the weight."""
    given = [
        key for key in ("local_gradient", "redraw") if getattr(cls, key) is not vars(Rule)[key]
    ]
    own = cls.__mro__[: cls.__mro__.index(Rule)]
    if given and not any("transports" in vars(base) for base in own):
        raise RuleError(
            f"rule '{cls.name}' does not say what its feedback takes over from the forward weight",
            notes=[f"{given[0]}() of {cls.__name__} is given the weight"],
            help='write in the class: transports = "copies", or transports = "none" if the '
            "entries of the weight do not get into the feedback that way",
        )


def _identity(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def find_rule(name: str) -> type[Rule]:
    """The class of a rule by its name or alias.

    Raises:
        RuleError: for an unknown name, with the closest known ones.
    """
    if name not in _RULES:
        known = sorted(_RULES)
        guess = did_you_mean(name, known)
        raise RuleError(
            f"unknown rule '{name}'",
            notes=[*([guess] if guess else []), f"known rules: {', '.join(available_rules())}"],
            help="list the rules with: fxbio rules; one of your own needs --plugin FILE.py, or "
            "policy.plugins in a recipe",
        )
    return _RULES[name]


def make_rule(name: str, options: dict[str, Any] | None = None) -> Rule:
    """A rule from its name and options.

    Raises:
        RuleError: for an unknown rule, an unknown option, or a value out of range.
    """
    cls = find_rule(name)
    options = options or {}
    known = [f.name for f in dataclasses.fields(cls)]
    for key in options:
        if key in known:
            continue
        guess = did_you_mean(key, known)
        allowed = f"its options: {', '.join(known)}" if known else "it has no options"
        raise RuleError(
            f"rule '{cls.name}' has no option '{key}'",
            notes=[*([guess] if guess else []), allowed],
            help=f"see: fxbio rules {cls.name}",
        )
    return cls(**options)


def available_rules() -> dict[str, type[Rule]]:
    """Rules by name, aliases left out, in alphabetical order."""
    return {cls.name: cls for cls in sorted(set(_RULES.values()), key=lambda c: c.name)}
