"""Learning rules as configuration, and the registry of rules.

A rule is a frozen dataclass: its fields are its options in the policy file. It belongs to one of
four families, and derives from the class of its family, which says what a rule of it defines:
``FeedbackRule``, ``BroadcastRule``, ``LocalRule`` or ``TargetRule``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

from fxbio.errors import RuleError, did_you_mean
from fxbio.rules.option_checks import instantiate, names
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
    """Base of all learning rules: the way of the error to the weights that have the rule."""

    kind: ClassVar[str] = "rule"
    listed: ClassVar[str] = "rules"
    """The command that lists its kind."""
    name: ClassVar[str] = ""
    """Name in the policy file; set by the ``rule`` decorator."""
    aliases: ClassVar[tuple[str, ...]] = ()
    paper: ClassVar[str] = ""
    """Where it was published."""
    family: ClassVar[Family]
    transports: ClassVar[Transport] = "none"
    calls: ClassVar[str] = ""
    """What a training loop calls besides ``backward()``; in brackets where it may be left out."""
    ops: ClassVar[tuple[OpKind, ...]] = OP_KINDS
    """Operations that it can serve."""
    rewrites: ClassVar[bool] = True
    """False for backprop: the site is left exactly as it is."""

    @classmethod
    def memory(cls) -> str:
        """Memory needed besides the model, in words."""
        return ""

    @classmethod
    def check_class(cls) -> None:
        """Refuse a class that cannot be registered.

        Raises:
            RuleError: when it belongs to no family, or does not declare what its family asks for.
        """
        if not hasattr(cls, "family"):
            raise RuleError(
                f"rule '{cls.name}' belongs to no family",
                notes=[f"{cls.__name__} derives from fxbio.Rule itself"],
                help=f"for a feedback weight of each site write: class {cls.__name__}"
                "(fxbio.FeedbackRule); other families: fxbio.rules.BroadcastRule, LocalRule, "
                "TargetRule",
            )

    def unsupported(self, info: WeightInfo) -> str | None:
        """Reason why this rule cannot serve such a weight, or ``None`` when it can."""
        if info.op not in self.ops:
            return f"rule '{self.name}' serves {', '.join(self.ops)}, not {info.op}"
        return None

    def unscalable(self) -> str | None:
        """Reason why it cannot learn from a scaled loss, as in float16, or ``None`` if it can."""
        return None

    def with_error(self, error: tuple[str, ...]) -> Rule:
        """The rule with error transforms, by their specs, at each of its sites.

        Raises:
            RuleError: for rules that do not send the error across a site.
        """
        raise RuleError(
            f"rule '{self.name}' takes no error transforms",
            notes=[f"it is of the {self.family} family, and sends no error across a site"],
            help="error transforms serve the rules of the asymmetric family, bp among them",
        )

    def in_words(self) -> str:
        """Origin of the error in words, for rules that do not send it across their sites."""
        return ""

    def options(self) -> dict[str, Any]:
        """The options and their values, as they would stand under ``with:``."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def spec(self) -> str:
        """The rule and its options in one line, from which ``parse_spec`` makes it again."""
        return self._spec

    @cached_property
    def _spec(self) -> str:
        return format_spec(self.name, self.options())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by name: the file of a plug-in need not be importable."""
        return make_rule, (self.name, self.options())

    def __str__(self) -> str:
        """As ``spec``, without the options that have their defaults."""
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        changed = {name: v for name, v in self.options().items() if v != defaults[name]}
        return format_spec(self.name, changed)


R = TypeVar("R", bound=type[Rule])
_RULES: dict[str, type[Rule]] = {}


def rule(name: str, *, aliases: Iterable[str] = ()) -> Callable[[R], R]:
    """Class decorator that enters a rule into the registry under a name and its aliases.

    Raises:
        RuleError: when a name is taken by a class from elsewhere, and as ``Rule.check_class``.
    """

    def register(cls: R) -> R:
        cls.name = name
        cls.aliases = tuple(aliases)
        cls.check_class()
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


def make_rule(name: str, options: Mapping[str, Any] | None = None) -> Rule:
    """A rule from its name and options; ``error`` among these are specs of error transforms.

    Raises:
        RuleError: for an unknown rule, an unknown or a missing option, or a value out of range.
    """
    own = dict(options or {})
    error = own.pop("error", ())
    made = instantiate(find_rule(name), own)
    return made.with_error(names("error", error)) if error else made


def available_rules() -> dict[str, type[Rule]]:
    """Rules by name, aliases left out, in alphabetical order."""
    return {cls.name: cls for cls in sorted(set(_RULES.values()), key=lambda c: c.name)}
