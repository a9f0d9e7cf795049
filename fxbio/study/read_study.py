"""From a study file to a study; every mistake is reported where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fxbio.errors import ConfigError, FxbioError, Location, PolicyError, RuleError
from fxbio.files.located_yaml import Node, parse
from fxbio.policy.entries import Where
from fxbio.policy.policy import Policy
from fxbio.policy.where_loader import check_glob, load_where
from fxbio.study.study_sections import AxisConfig, RuleConfig, StudyConfig
from fxbio.train.build.model import read_policy
from fxbio.train.config import Recipe, load_recipe
from fxbio.train.config.load import read_config, recipe_of
from fxbio.train.config.read import as_config_error, read_section

__all__ = ["Axis", "Study", "load_study", "placed"]


@dataclass(frozen=True)
class Axis:
    """An axis with what its texts mean."""

    config: AxisConfig
    rules: tuple[RuleConfig, ...]
    """Its own, or those of the study; with the control, where there is one."""
    within: Where
    location: Location | None

    @property
    def name(self) -> str:
        """The heading of its table."""
        return self.config.name

    @property
    def is_curve(self) -> bool:
        """Whether its cells are steps on one way, to be drawn as a curve."""
        return self.config.option is not None or (
            self.config.unit is not None and self.config.scheme in ("prefix", "suffix")
        )


@dataclass(frozen=True)
class Study:
    """A study that is sound as far as can be seen without its model."""

    name: str
    """Of the file, without its ending."""
    text: str
    recipe: Recipe
    policy: Policy
    """Of the base."""
    axes: tuple[Axis, ...]
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
    text = read_config(path, "study", "studies in examples/studies")
    try:
        root = _spelled_out(parse(text, str(path), what="the study"))
        config = read_section(root, StudyConfig, "the study")
        recipe = _recipe(root, config, path)
        policy = read_policy(recipe.policy)  # loads plug-ins too, whose rules the axes may name
        axes = tuple(
            _axis(node, axis, config)
            for node, axis in zip(_items(_child(root, "axes")), config.axes, strict=True)
        )
    except PolicyError as error:
        raise as_config_error(error) from error
    _check_rules(root)
    cluster = _child(root, "cluster")
    place = cluster.location if cluster else None
    return Study(path.stem, text, recipe, policy, axes, config.seeds, config.cluster, place)


def _spelled_out(node: Node, key: str = "") -> Node:
    """A bare name in a list of rules, or in its place, stands for ``{rule: NAME}``."""
    value = node.value
    if isinstance(value, dict):
        value = {name: _spelled_out(child, name) for name, child in value.items()}
    elif isinstance(value, list):
        value = [_spelled_out(child, f"{key}[]") for child in value]
    elif key == "rules" and isinstance(value, str):
        value = [_spelled_out(node, f"{key}[]")]
    elif key == "rules[]" and isinstance(value, str):
        value = {"rule": Node(value, node.location, node.location)}
    return replace(node, value=value)


def _recipe(root: Node, config: StudyConfig, path: Path) -> Recipe:
    if isinstance(config.recipe, str):
        return load_recipe(path.parent / config.recipe, config.overrides)
    node = _child(root, "recipe")
    assert node is not None
    return recipe_of(node, config.overrides)


def _axis(node: Node, axis: AxisConfig, config: StudyConfig) -> Axis:
    within = _child(node, "within")
    rules = axis.rules or config.rules
    if axis.unit and not rules:
        raise ConfigError(
            f"the axis '{axis.name}' has no rules",
            location=node.location,
            help="write, for example, in the study or in the axis: rules: [fa, usf]",
        )
    if config.control:
        rules = (*rules, RuleConfig("frozen"))
    _check_policies(node, axis.policies)
    for glob in _items(_child(node, "blocks")):
        check_glob(str(glob.value), glob)
    where = Where() if within is None else load_where(within)
    return Axis(axis, rules if axis.unit else (), where, (within or node).location)


def _check_rules(root: Node) -> None:
    """Each rule by itself: its name and its options."""
    lists = [root, *_items(_child(root, "axes"))]
    for node in (rule for place in lists for rule in _items(_child(place, "rules"))):
        options = _child(node, "options")
        _check_rule(node, {} if options is None else options.plain())
    for axis in _items(_child(root, "axes")):
        option = _child(axis, "option")
        if option is not None:
            key = option.plain()["option"]
            for value in _items(_child(option, "values")):
                _check_rule(option, {key: value.plain()}, value.location)


def _check_rule(node: Node, options: dict[str, object], place: Location | None = None) -> None:
    name = _child(node, "rule")
    assert name is not None
    try:
        Policy.uniform(str(name.value), **options)
    except (PolicyError, RuleError) as error:
        raise placed(error, place or name.location) from error


def _check_policies(axis: Node, paths: Sequence[Path]) -> None:
    """Each file by itself: a mistake inside has a place of its own."""
    for node, path in zip(_items(_child(axis, "policies")), paths, strict=True):
        try:
            Policy.from_yaml(path)
        except PolicyError as error:
            raise placed(error, error.location or node.location) from error


def placed(error: FxbioError, location: Location | None) -> ConfigError:
    """The same error, about a place in a study."""
    return ConfigError(error.headline, location=location, notes=error.notes, help=error.help)


def _child(node: Node, key: str) -> Node | None:
    return node.value.get(key) if isinstance(node.value, dict) else None


def _items(node: Node | None) -> list[Node]:
    return node.value if node is not None and isinstance(node.value, list) else []
