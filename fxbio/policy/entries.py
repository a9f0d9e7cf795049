"""The entries of a policy as data: selectors, choices of rules, and expected counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from fxbio.errors import Location
from fxbio.globs import Pattern
from fxbio.rules import Rule, make_rule

__all__ = ["Depth", "Entry", "Expect", "OnUnsupported", "RuleChoice", "Span", "Where"]

OnUnsupported: TypeAlias = Literal["error", "bp"]


@dataclass(frozen=True)
class Span:
    """A slice of positions, ``a:b``."""

    start: int | None
    stop: int | None

    def __str__(self) -> str:
        ends = ("" if end is None else str(end) for end in (self.start, self.stop))
        return ":".join(ends)


@dataclass(frozen=True)
class Depth:
    """An inclusive range of layers, or of fractions of the model's depth."""

    low: float | None
    high: float | None
    fraction: bool


@dataclass(frozen=True)
class Where:
    """A selector. All fields that are set must hold; see ``fxbio.policy.keys`` for each.

    ``module``, ``regex``, ``op``, ``type``, ``depth`` and ``between`` look at one site at a time.
    What they leave is handed to ``all_of``, ``any_of`` and ``not_of``, and what those leave is
    counted by ``index``, ``first`` or ``last``.
    """

    module: tuple[Pattern, ...] = ()
    regex: Pattern | None = None
    op: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    depth: Depth | None = None
    between: tuple[Pattern, Pattern] | None = None
    all_of: tuple[Where, ...] = ()
    any_of: tuple[Where, ...] = ()
    not_of: Where | None = None
    index: tuple[int, ...] | Span | None = None
    first: int = 0
    last: int = 0
    location: Location | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The selector as it would stand in a policy file."""
        between, depth = self.between, self.depth
        written: dict[str, Any] = {
            "module": _one_or_list([pattern.text for pattern in self.module]),
            "regex": self.regex.text if self.regex else None,
            "op": _one_or_list(self.op),
            "type": _one_or_list(self.type),
            "depth": [depth.low, depth.high] if depth else None,
            "between": [pattern.text for pattern in between] if between else None,
            "all": [child.to_dict() for child in self.all_of],
            "any": [child.to_dict() for child in self.any_of],
            "not": self.not_of.to_dict() if self.not_of else None,
            "index": str(self.index) if isinstance(self.index, Span) else _one_or_list(self.index),
            "first": self.first or None,
            "last": self.last or None,
        }
        return {key: value for key, value in written.items() if value is not None and value != []}


def _one_or_list(values: Sequence[Any] | None) -> Any:
    if values is None or len(values) != 1:
        return list(values) if values else None
    return values[0]


@dataclass(frozen=True)
class RuleChoice:
    """A rule by its name in the registry, with the options that the policy sets."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    location: Location | None = field(default=None, compare=False)

    def rule(self) -> Rule:
        """The rule itself."""
        return make_rule(self.name, dict(self.options))

    def to_dict(self) -> dict[str, Any]:
        """Keys ``rule`` and ``with``, the latter only where there are options."""
        return {"rule": self.name, **({"with": dict(self.options)} if self.options else {})}


@dataclass(frozen=True)
class Expect:
    """How many weights an entry must match."""

    count: int | None = None
    min: int | None = None
    max: int | None = None
    location: Location | None = field(default=None, compare=False)

    def admits(self, found: int) -> bool:
        """Whether so many weights are as expected."""
        if self.count is not None:
            return found == self.count
        return (self.min is None or found >= self.min) and (self.max is None or found <= self.max)

    def to_dict(self) -> dict[str, int]:
        """The keys that are set."""
        bounds = {"count": self.count, "min": self.min, "max": self.max}
        return {key: value for key, value in bounds.items() if value is not None}

    def __str__(self) -> str:
        if self.count is not None:
            return str(self.count)
        if self.min is not None and self.max is not None:
            return f"{self.min} to {self.max}"
        return f"at least {self.min}" if self.min is not None else f"at most {self.max}"


@dataclass(frozen=True)
class Entry:
    """One entry of ``rules``: these sites get this rule."""

    index: int
    where: Where
    rule: RuleChoice
    name: str | None = None
    expect: Expect | None = None
    allow_unmatched: bool = False
    on_unsupported: OnUnsupported = "error"
    location: Location | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """Its name, or its number counted from 1."""
        return self.name or f"entry {self.index + 1}"

    def __str__(self) -> str:
        return f"entry '{self.name}'" if self.name else self.label

    def to_dict(self) -> dict[str, Any]:
        """The entry as it would stand in a policy file."""
        result: dict[str, Any] = {"name": self.name} if self.name else {}
        result |= {"where": self.where.to_dict(), **self.rule.to_dict()}
        if self.expect:
            result["expect"] = self.expect.to_dict()
        if self.allow_unmatched:
            result["allow_unmatched"] = True
        if self.on_unsupported != "error":
            result["on_unsupported"] = self.on_unsupported
        return result
