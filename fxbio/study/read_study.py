"""From a study file to a study; every mistake is reported where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fxbio.errors import ConfigError, Location, PolicyError
from fxbio.files.located_yaml import Node, parse
from fxbio.files.reading import read_document
from fxbio.files.typed_yaml import read_section
from fxbio.policy.entries import checked_rule
from fxbio.policy.policy import Policy
from fxbio.study.study_sections import AxisConfig, RuleConfig, StudyConfig
from fxbio.train.build.model import read_policy
from fxbio.train.config import Recipe, load_recipe
from fxbio.train.config.load_recipe import recipe_of

__all__ = ["Study", "load_study"]


@dataclass(frozen=True)
class Study:
    """A study that is sound as far as can be seen without its model."""

    name: str
    """Of the file, without its ending."""
    text: str
    recipe: Recipe
    policy: Policy
    """Of the base."""
    axes: tuple[AxisConfig, ...]
    """With the rules that their units get: their own, or those of the study, and the control."""
    seeds: tuple[int, ...]
    cluster: Mapping[str, Any]
    """What a job asks for."""
    cluster_location: Location | None


def load_study(path: str | Path) -> Study:
    """Read a study file.

    Raises:
        FxbioError: with line and column for the first mistake in it, its recipe or its policies.
    """
    path = Path(path)
    text = read_document(path, "study", ConfigError, "fxbio comes with studies in examples/studies")
    root = parse(text, str(path), "the study", ConfigError)
    config = read_section(root, StudyConfig, "the study")
    recipe = _recipe(config, root, path)
    try:
        policy = read_policy(recipe.policy)  # loads plug-ins too, whose rules the axes may name
    except PolicyError as error:
        raise error.recast(ConfigError, error.location) from error
    axes = tuple(_with_rules(axis, config) for axis in config.axes)
    for rule in (*config.rules, *(rule for axis in config.axes for rule in axis.rules)):
        _check_rule(rule)
    for axis in axes:
        _check_steps(axis)
    cluster = root.below.get("cluster")
    place = cluster.location if cluster else None
    return Study(path.stem, text, recipe, policy, axes, config.seeds, config.cluster, place)


def _recipe(config: StudyConfig, root: Node, path: Path) -> Recipe:
    if isinstance(config.recipe, str):
        return load_recipe(path.parent / config.recipe, config.overrides)
    return recipe_of(root.below["recipe"], config.overrides)


def _with_rules(axis: AxisConfig, config: StudyConfig) -> AxisConfig:
    rules = axis.rules or config.rules
    if not axis.unit:
        return replace(axis, rules=())
    if not rules:
        raise ConfigError(
            f"the axis '{axis.name}' has no rules",
            location=axis.location,
            help="write, for example, in the study or in the axis: rules: [fa, usf]",
        )
    control = (RuleConfig("frozen"),) if config.control else ()
    return replace(axis, rules=(*rules, *control))


def _check_rule(rule: RuleConfig) -> None:
    """By itself: its name and its options."""
    node = rule.written
    if node is not None:
        checked_rule(node.below["rule"], rule.options, node.below.get("options"))


def _check_steps(axis: AxisConfig) -> None:
    """Check the steps of an axis that are no rules: values of an option, policy files."""
    steps = axis.option and axis.option.written
    if axis.option and steps:
        for value in steps.below["values"].items:
            given = {axis.option.option: value}
            checked_rule(
                steps.below["rule"],
                {key: node.plain() for key, node in given.items()},
                replace(steps, value=given),
            )
    policies = axis.written.below.get("policies") if axis.written else None
    for node, path in zip(policies.items if policies else (), axis.policies, strict=True):
        try:
            Policy.from_yaml(path)
        except PolicyError as error:  # a mistake inside has a place of its own
            raise error.recast(ConfigError, error.location or node.location) from error
