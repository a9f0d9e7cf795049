"""The sections of a study file. Each field is a key; the text below it is its documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from fxbio.train.checked import NEAR_RECIPE, fail

__all__ = ["AxisConfig", "OptionConfig", "RuleConfig", "Scheme", "StudyConfig", "Unit"]

Unit = Literal["layer", "stage", "block", "op"]
Scheme = Literal["each", "leave-one-out", "prefix", "suffix"]


@dataclass(frozen=True)
class RuleConfig:
    """A rule that units get in turn; a bare name stands for one without options."""

    rule: str
    """Its name, as in fxbio rules."""

    options: Annotated[Mapping[str, Any], NEAR_RECIPE] = field(default_factory=dict)
    """Its options."""

    name: str = ""
    """What the tables call it, by default as the rule."""

    @property
    def label(self) -> str:
        """What the tables call it."""
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


@dataclass(frozen=True)
class AxisConfig:
    """What differs from cell to cell: units of the model, policies, or an option of a rule."""

    name: str
    """The heading of its table."""

    unit: Unit | None = None
    """layer, stage (a module at the top of the model), block (as of target propagation), or op."""

    scheme: Scheme = "each"
    """Which units get the rule: each alone, all but one, all up to one (prefix, so the base's rule
    holds above it), or all from one on (suffix)."""

    within: Mapping[str, Any] = field(default_factory=dict)
    """A selector as in a policy: only these layers take part."""

    blocks: tuple[str, ...] = ()
    """Globs of modules that are one block each, for blocks."""

    rules: tuple[RuleConfig, ...] = ()
    """By default those of the study."""

    policies: tuple[Path, ...] = ()
    """Policy files, one for each cell, in the place of the base's."""

    option: OptionConfig | None = None
    """An option of a rule that all layers of the axis get."""

    def __post_init__(self) -> None:
        given = [key for key in ("unit", "policies", "option") if getattr(self, key)]
        if not given:
            fail("name", "stands alone: an axis needs unit, policies or option")
        if len(given) > 1:
            fail(given[1], f"stands beside {given[0]}: an axis has one of the two")


@dataclass(frozen=True)
class StudyConfig:
    """A study as it is written."""

    recipe: str | Mapping[str, Any]
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
