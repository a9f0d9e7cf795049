"""Cells: the points of a study, each a policy that is trained with every seed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from fxbio.errors import ConfigError, Location
from fxbio.graph.model_graph import ModelGraph
from fxbio.policy.policy import Policy
from fxbio.site import Site
from fxbio.study.ablation_units import ModelUnit, selector, units
from fxbio.study.read_study import Study
from fxbio.study.study_sections import AxisConfig, Scheme

__all__ = ["BASE", "Cell", "make_cells", "slug"]

BASE = "base"
"""Name of the cell that is the base itself."""

_MOST_CELLS, _MOST_RUNS = 10_000, 100_000
"""Of a study: more are a slip in a list of seeds or values, and take minutes to be counted."""


@dataclass(frozen=True)
class Cell:
    """A place in the table of an axis."""

    axis: str
    """Empty for the base."""
    unit: str
    """The row: a layer, ``up to LAYER``, a policy, the value of an option."""
    rule: str
    """The column."""
    policy: str
    """YAML. Its seed is the base's; that of a run is added to it."""
    run: str
    """Folder of its runs. Cells with the same policy share them."""


def make_cells(study: Study, model: nn.Module, graph: ModelGraph) -> tuple[Cell, ...]:
    """All cells of a study, the base first.

    Args:
        study: what is wanted.
        model: of its recipe, not transformed.
        graph: its capture.

    Raises:
        ConfigError: when an axis matches no layer or leaves out its only one, two cells have the
            same place, or there are too many.
        PolicyError: when a policy is malformed.
    """
    cells = [Cell("", BASE, "", study.policy.to_yaml(), BASE)]
    for axis in study.axes:
        for unit, rule, policy in _points(axis, study.policy, model, graph):
            run = "/".join(map(slug, filter(None, (axis.name, unit, rule))))
            cells.append(Cell(axis.name, unit, rule, policy, run))
            _check_size(cells, study.seeds, axis)
    _check_places(cells, {axis.name: axis.location for axis in study.axes})
    first: dict[str, str] = {}
    return tuple(replace(cell, run=first.setdefault(cell.policy, cell.run)) for cell in cells)


def _check_size(cells: Sequence[Cell], seeds: Sequence[int], axis: AxisConfig) -> None:
    if len(cells) <= min(_MOST_CELLS, _MOST_RUNS // len(seeds)):
        return
    raise ConfigError(
        f"the study has {len(cells):,} cells or more, with {len(seeds):,} seeds each",
        location=axis.location,
        notes=[f"at most {_MOST_CELLS:,} cells and {_MOST_RUNS:,} runs are one study"],
        help="take fewer seeds, or cut the study into several",
    )


Point = tuple[str, str, str]
"""Row, column and policy of a cell."""


def _points(axis: AxisConfig, base: Policy, model: nn.Module, graph: ModelGraph) -> Iterator[Point]:
    if axis.policies:
        for path in axis.policies:
            yield path.stem, "", replace(Policy.from_yaml(path), seed=base.seed).to_yaml()
        return
    found = units(axis, model, graph)
    option = axis.option
    if option is not None:
        where = selector(_all_sites(found), graph)
        for value in option.values:
            policy = _with(base, where, option.rule, {option.option: value})
            yield f"{option.option}={value}", option.rule, policy
        return
    if axis.scheme == "leave-one-out" and len(found) == 1:
        raise ConfigError(
            f"the axis '{axis.name}' leaves one out, but has only '{found[0].name}'",
            location=axis.location,
            help="let more layers take part, or choose another scheme",
        )
    for name, sites in _subsets(found, axis.scheme):
        for rule in axis.rules:
            policy = _with(base, selector(sites, graph), rule.rule, dict(rule.options))
            yield name, rule.label, policy


def _subsets(found: Sequence[ModelUnit], scheme: Scheme) -> Iterator[tuple[str, tuple[Site, ...]]]:
    """The units that get the rule in each cell, and what that is called."""
    for k, unit in enumerate(found):
        if scheme == "each":
            yield unit.name, unit.sites
        elif scheme == "prefix":
            yield f"up to {unit.name}", _all_sites(found[: k + 1])
        elif scheme == "suffix":
            yield f"from {unit.name}", _all_sites(found[k:])
        else:
            yield f"all but {unit.name}", _all_sites([*found[:k], *found[k + 1 :]])


def _all_sites(found: Sequence[ModelUnit]) -> tuple[Site, ...]:
    return tuple(site for unit in found for site in unit.sites)


def _with(base: Policy, where: dict[str, Any], rule: str, options: dict[str, Any]) -> str:
    return base.append(where=where, rule=rule, options=options).text


def slug(text: str) -> str:
    """A text as a part of a path."""
    return re.sub(r"[^\w.=+-]+", "-", text).strip("-.") or "root"


def _check_places(cells: Sequence[Cell], axes: Mapping[str, Location | None]) -> None:
    taken: dict[str, Cell] = {}
    for cell in cells:
        other = taken.setdefault(cell.run.casefold(), cell)
        if other is not cell:
            raise ConfigError(
                f"two cells of the study have the same place, '{cell.run}'",
                location=axes.get(cell.axis),
                notes=[_in_words(other), _in_words(cell)],
                help="give axes different names, and rules with options a name: "
                "{rule: fa, options: {...}, name: fa-small}",
            )


def _in_words(cell: Cell) -> str:
    rule = f", rule {cell.rule}" if cell.rule else ""
    return f"axis '{cell.axis}', {cell.unit}{rule}"
