"""The sections of a study file. Each field is a key; the text below it is its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from fxbio.errors import Location
from fxbio.files.fields import Mark, ReadAs
from fxbio.files.located_yaml import Node
from fxbio.files.typed_yaml import read_value
from fxbio.policy.entries import Where
from fxbio.policy.where_values import GlobText
from fxbio.train.checked import fail
from fxbio.train.config import Recipe

__all__ = ["AxisConfig", "OptionConfig", "RuleConfig", "Scheme", "StudyConfig", "Unit"]

Unit = Literal["layer", "stage", "block", "op"]
Scheme = Literal["each", "leave-one-out", "prefix", "suffix"]
Written: TypeAlias = Annotated[Node | None, Mark.UNWRITTEN]
"""The section as it stands in the file, for errors that are found later."""


def _recipe(node: Node, name: str) -> Any:
    """As it is written: it is read when its overrides are known."""
    return read_value(node, str | Mapping[str, Any], name)


@dataclass(frozen=True)
class RuleConfig:
    """A rule that units get in turn; a bare name stands for one without options."""

    rule: str
    """Its name, as in fxbio rules."""

    options: Annotated[Mapping[str, Any], Mark.NEAR_FILE] = field(default_factory=dict)
    """Its options."""

    name: str = ""
    """What the tables call it, by default as the rule."""

    written: Written = None

    @staticmethod
    def of_text(text: str) -> dict[str, str]:
        """A bare name stands for a rule without options."""
        return {"rule": text}

    def checked_at(self, node: Node) -> RuleConfig:
        """Itself with its place; its rule may come from a plug-in, and is checked later."""
        return replace(self, written=node)

    @property
    def label(self) -> str:
        """Name in tables."""
        return self.name or self.rule


@dataclass(frozen=True)
class OptionConfig:
    """An option of a rule, and what it is set to in turn."""

    rule: str
    """The rule that all layers of the axis get."""

    option: str
    """The name of the option."""

    values: tuple[Any, ...]
    """What it is set to."""

    written: Written = None

    def checked_at(self, node: Node) -> OptionConfig:
        """Itself with its place, as for ``RuleConfig``."""
        return replace(self, written=node)


@dataclass(frozen=True)
class AxisConfig:
    """Differences from cell to cell: units of the model, policies, or an option of a rule."""

    name: str
    """The heading of its table."""

    unit: Unit | None = None
    """layer, stage (a module at the top of the model), block (as of target propagation), or op."""

    scheme: Scheme = "each"
    """Which units get the rule: each alone, all but one, all up to one (prefix, so the base's rule
    holds above it), or all from one on (suffix)."""

    within: Where = field(default_factory=Where)
    """A selector as in a policy: only these layers take part."""

    blocks: tuple[GlobText, ...] = ()
    """Globs of modules that are one block each, for blocks."""

    rules: tuple[RuleConfig, ...] = ()
    """By default those of the study."""

    policies: tuple[Path, ...] = ()
    """Policy files, one for each cell, in the place of the base's."""

    option: OptionConfig | None = None
    """An option of a rule that all layers of the axis get."""

    written: Written = None

    def __post_init__(self) -> None:
        given = [key for key in ("unit", "policies", "option") if getattr(self, key)]
        if not given:
            fail("name", "stands alone: an axis needs unit, policies or option")
        if len(given) > 1:
            fail(given[1], f"stands beside {given[0]}: an axis has one of the two")

    def checked_at(self, node: Node) -> AxisConfig:
        """Itself with its place; its policies may have rules of a plug-in, as ``RuleConfig``."""
        return replace(self, written=node)

    @property
    def is_curve(self) -> bool:
        """Its cells are steps on one way, to be drawn as a curve."""
        return self.option is not None or (
            self.unit is not None and self.scheme in ("prefix", "suffix")
        )

    @property
    def location(self) -> Location | None:
        """Place in the file where it says which layers take part."""
        return self.within.location or (self.written.location if self.written else None)


@dataclass(frozen=True)
class StudyConfig:
    """A study as it is written."""

    recipe: Annotated[str | Mapping[str, Any], ReadAs(_recipe, str | Recipe)]
    """The base: a recipe file, relative to the study, or the sections of a recipe."""

    axes: tuple[AxisConfig, ...]
    """What differs from cell to cell, a table for each."""

    overrides: tuple[str, ...] = ()
    """Settings of the recipe, as for fxbio train: train.epochs=5."""

    rules: tuple[RuleConfig, ...] = ()
    """What units get in turn, in every axis that has no rules of its own."""

    seeds: tuple[int, ...] = (0,)
    """Each cell is trained once with each, for initial weights, order and feedback."""

    control: bool = False
    """Beside the rules, freeze the units: what a rule adds to not training them at all."""

    cluster: Mapping[str, Any] = field(default_factory=dict)
    """What a job asks for with --cluster, as submitit.AutoExecutor calls it: timeout_min,
    gpus_per_node, cpus_per_task, mem_gb, slurm_partition."""

    def __post_init__(self) -> None:
        if not self.axes:
            fail("axes", "is empty: a study needs at least one")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            fail("seeds", "must be different numbers, at least one")
        if min(self.seeds) < 0:
            fail("seeds", "must be at least 0")
