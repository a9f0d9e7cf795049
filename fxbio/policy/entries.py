"""The entries of a policy as data: selectors, choices of rules, and expected counts.

Each class is a section of the file: its fields are keys, and the text below a field is the key's
documentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from fxbio.errors import Location, RuleError
from fxbio.files.fields import AtLeast, Example, Key, Mark, options_of
from fxbio.files.json_schema import Schema
from fxbio.files.located_yaml import Node
from fxbio.files.typed_yaml import keys_of
from fxbio.policy.error_transforms import Transforms
from fxbio.policy.rules_schema import rules_schema
from fxbio.policy.where_values import (
    Amount,
    Between,
    DepthRange,
    Glob,
    OpName,
    Positions,
    Regex,
    Span,
)
from fxbio.rules import Rule, available_rules, find_rule, make_rule

__all__ = ["Entry", "Expect", "OnUnsupported", "RuleChoice", "Where", "checked_rule"]

OnUnsupported: TypeAlias = Literal["error", "bp"]
Count: TypeAlias = Annotated[int | None, Mark.NOT_NULL, AtLeast(0)]


@dataclass(frozen=True)
class Where:
    """A selector. All fields that are set must hold.

    ``module``, ``regex``, ``op``, ``type``, ``depth`` and ``between`` look at one site at a time.
    What they leave is handed to ``all``, ``any`` and ``not``, and what those leave is counted by
    ``index``, ``first`` or ``last``.
    """

    module: Annotated[tuple[Glob, ...], AtLeast(1), Example('"backbone.**"')] = ()
    """Globs on the path of the module that holds the weight: * is within one segment, ** is any
    number of segments."""

    regex: Annotated[Regex, Example(r"'layer[34]\..*'")] = None
    """Regular expression that the whole module path matches."""

    op: Annotated[tuple[OpName, ...], AtLeast(1), Example("[conv, linear]")] = ()
    """Kinds of operation. Normalisation scales and embeddings are matched only where norm or
    embedding is named."""

    type: Annotated[tuple[str, ...], AtLeast(1), Example("Conv2d")] = ()
    """Class name of the module, globs allowed."""

    depth: Annotated[DepthRange, Example("[0.5, 1.0]")] = None
    """Inclusive range. Whole numbers count layers from the input; with a decimal point at either
    end both are fractions of the model's depth: [0, 1] is two layers, [0.0, 1.0] the whole model.
    An open end is null."""

    between: Annotated[Between, Example("[backbone.layer1.**, backbone.layer3.**]")] = None
    """Two globs: sites on a dataflow path from the first to the second, inclusive."""

    any_of: Annotated[
        tuple[Where, ...], Key("any"), AtLeast(1), Example("[{first: true}, {last: true}]")
    ] = ()
    """Selectors of which one holds."""

    all_of: Annotated[
        tuple[Where, ...], Key("all"), AtLeast(1), Example("[{first: 5}, {not: {op: linear}}]")
    ] = ()
    """Selectors that all hold."""

    not_of: Annotated[Where | None, Key("not"), Mark.NOT_NULL, Example("{last: true}")] = None
    """A selector that does not hold."""

    index: Annotated[Positions, Example("-1")] = None
    """Position among the weights that the other keys leave, in order of first use: a number
    (negative from the end), a list, or a slice 'a:b'."""

    first: Annotated[Amount, Example("true")] = 0
    """The first weight, or the first N, that the other keys leave."""

    last: Annotated[Amount, Example("true")] = 0
    """The last weight, or the last N, that the other keys leave."""

    location: Annotated[Location | None, Mark.UNWRITTEN] = field(default=None, compare=False)

    @staticmethod
    def of_text(text: str) -> dict[str, str]:
        """The short form, ``"glob::op"``."""
        glob, separator, op = text.partition("::")
        return {"module": glob, **({"op": op} if separator else {})}

    @staticmethod
    def home_of(key: str, node: Node) -> str:
        """Keys of the entry around it."""
        return f"'{key}' belongs beside 'where', not in it" if key in keys_of(Entry) else ""

    def checked_at(self, node: Node) -> Where:
        """Refuse an empty selector, and one that counts in two ways."""
        if not node.below:
            raise node.fault(
                "an empty 'where' selects nothing",
                help='select everything with: where: {module: "**"}',
            )
        counted = [key for key in node.below if key in ("index", "first", "last")]
        if len(counted) > 1:
            raise node.below[counted[1]].at_key.fault(
                f"'{counted[0]}' and '{counted[1]}' in one 'where'",
                notes=["each counts among the weights that the other keys leave"],
                help=f"combine them: any: [{{{counted[0]}: …}}, {{{counted[1]}: …}}]",
            )
        return self

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

    name: Annotated[str, Key("rule"), AtLeast(1), Example("usf")]
    """Name of the rule."""

    options: Annotated[
        Mapping[str, Any], Key("with"), Mark.NEAR_FILE, Example("{magnitude: xiao}")
    ] = field(default_factory=dict)
    """Options of the rule."""

    error: Annotated[Transforms, Example("topk{share=0.1}")] = ()
    """Transforms of the error at each site, applied in their order: specs such as
    topk{share=0.1,where=weight}, or mappings of a name to options."""

    location: Annotated[Location | None, Mark.UNWRITTEN] = field(default=None, compare=False)

    @staticmethod
    def of_text(text: str) -> dict[str, str]:
        """A bare name is a rule without options."""
        return {"rule": text}

    @staticmethod
    def more_schema() -> Schema:
        """The names of the rules, and the options of each."""
        return rules_schema(available_rules())

    def checked_at(self, node: Node) -> RuleChoice:
        """With the rule's own name in place of an alias."""
        name = node.below["rule"]
        rule = checked_rule(name, self.options, node.below.get("with"))
        if self.error:
            _with_error(rule, self.error, node.below["error"])
        return RuleChoice(rule.name, self.options, self.error, name.location)

    def rule(self) -> Rule:
        """The rule itself."""
        rule = make_rule(self.name, self.options)
        return rule.with_error(self.error) if self.error else rule

    def to_dict(self) -> dict[str, Any]:
        """Keys ``rule``, ``with`` and ``error``, the latter two only where they say something."""
        written: dict[str, Any] = {"rule": self.name}
        if self.options:
            written["with"] = dict(self.options)
        return written | ({"error": list(self.error)} if self.error else {})


def _with_error(rule: Rule, error: tuple[str, ...], written: Node) -> None:
    try:
        rule.with_error(error)
    except RuleError as fault:
        raise written.at_key.same_fault(fault) from fault


def checked_rule(name: Node, options: Mapping[str, Any], written: Node | None) -> Rule:
    """A rule as it is written in a file.

    Args:
        name: its name.
        options: their values.
        written: the same in the file.

    Raises:
        FxbioError: of the class ``name.error``, at the option that is wrong, or at the name.
    """
    if written is not None and "error" in written.below:
        raise written.below["error"].at_key.fault(
            "'error' is no option of a rule: transforms of the error stand beside it",
            help="write it below the rule: {rule: fa, error: [topk]}",
        )
    try:
        return make_rule(str(name.value), options)
    except RuleError as error:
        option = written.below.get(error.option or "") if written else None
        if option is None:
            raise name.same_fault(error) from error
        known = {known.name for known in options_of(find_rule(str(name.value)))}
        if error.option in known:
            raise option.same_fault(error) from error
        raise option.at_key.same_fault(error) from error


@dataclass(frozen=True)
class Expect:
    """Number of weights that an entry must match."""

    count: Annotated[Count, Example("53")] = None
    """Exactly so many weights."""

    min: Annotated[Count, Example("1")] = None
    """At least so many weights."""

    max: Annotated[Count, Example("20")] = None
    """At most so many weights."""

    location: Annotated[Location | None, Mark.UNWRITTEN] = field(default=None, compare=False)

    def checked_at(self, node: Node) -> Expect:
        """Refuse bounds that nothing can meet, or everything."""
        fault = None
        if not node.below:
            fault = "it is empty"
        elif self.count is not None and len(node.below) > 1:
            fault = "count stands alone"
        elif self.min is not None and self.max is not None and self.min > self.max:
            fault = "min is above max"
        if fault:
            raise node.fault(
                f"expect makes no sense: {fault}",
                help="write {count: N}, {min: N}, {max: N} or {min: N, max: M}",
            )
        return self

    def admits(self, found: int) -> bool:
        """True if so many weights are as expected."""
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

    where: Annotated[Where, Example('{module: "backbone.**", op: conv}')]
    """The sites it is about; all keys must hold. Short form: "glob::op"."""

    rule: Annotated[RuleChoice, Mark.INLINE]

    index: Annotated[int, Mark.UNWRITTEN] = 0

    name: Annotated[str | None, Mark.NOT_NULL, AtLeast(1), Example("backbone")] = None
    """A name for tables and messages."""

    expect: Annotated[Expect | None, Mark.NOT_NULL, Example("{count: 53}")] = None
    """How many weights it must match; checked before anything changes."""

    allow_unmatched: Annotated[bool, Example("true")] = False
    """Whether it may match nothing."""

    on_unsupported: Annotated[OnUnsupported, Example("bp")] = "error"
    """What to do where the rule cannot be installed: error, or keep bp."""

    location: Annotated[Location | None, Mark.UNWRITTEN] = field(default=None, compare=False)

    @staticmethod
    def home_of(key: str, node: Node) -> str:
        """Options of the entry's rule that were written beside ``rule`` instead of under it."""
        name = node.below.get("rule")
        try:
            known = {o.name for o in options_of(find_rule(str(name.value)))} if name else set()
        except RuleError:  # it is reported in its turn
            return ""
        return f"options go under 'with': with: {{{key}: …}}" if key in known else ""

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
