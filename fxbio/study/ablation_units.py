"""Units: the parts of a model that an axis goes through, each with the selector of its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from fxbio.errors import ConfigError, PolicyError
from fxbio.globs import suggest_paths
from fxbio.graph.model_graph import ModelGraph
from fxbio.policy.selector import patterns_of, select
from fxbio.site import Site
from fxbio.study.study_sections import AxisConfig
from fxbio.target_propagation.blocks import partition

__all__ = ["ModelUnit", "selector", "units"]

_ROOT = {"regex": "()"}
"""Selects weights that the model itself holds: no glob matches an empty path."""


@dataclass(frozen=True)
class ModelUnit:
    """Some weights of a model under one name."""

    name: str
    sites: tuple[Site, ...]


def units(axis: AxisConfig, model: nn.Module, graph: ModelGraph) -> tuple[ModelUnit, ...]:
    """The units of an axis in order of execution.

    Raises:
        ConfigError: when the axis matches no layer, or the model cannot be cut into its blocks.
    """
    sites = select(axis.within, graph)
    if not sites:
        raise _no_layer(axis, graph)
    groups: dict[str, list[Site]] = {}
    name_of = _naming(axis, model, graph)
    for site in sites:
        groups.setdefault(name_of(site), []).append(site)
    return tuple(ModelUnit(name, tuple(members)) for name, members in groups.items())


def selector(sites: tuple[Site, ...], graph: ModelGraph) -> dict[str, Any]:
    """A ``where`` that selects these sites: by module, and by op where modules have others."""
    paths = {site.path for site in sites}
    listed: list[str] = list(dict.fromkeys(site.path for site in sites if site.path))
    where: dict[str, Any] = {"module": listed[0] if len(listed) == 1 else listed}
    if "" in paths:
        where = {"any": [where, _ROOT]} if listed else dict(_ROOT)
    chosen = {site.name for site in sites}
    others = [s for s in graph.sites if s.path in paths and s.name not in chosen]
    if any(s.multiplies for s in others) or not all(s.multiplies for s in sites):
        where["op"] = list(dict.fromkeys(site.op for site in sites))
    return where


def _naming(axis: AxisConfig, model: nn.Module, graph: ModelGraph) -> Callable[[Site], str]:
    if axis.unit == "block":
        try:
            blocks = partition(model, graph, axis.blocks)
        except PolicyError as error:
            raise error.recast(ConfigError, axis.location) from error
        of = {name: b.name for b in blocks for name in (*b.sites, *b.norms)}
        return lambda site: of.get(site.name, site.path)
    if axis.unit == "stage":
        return lambda site: site.path.partition(".")[0] or graph.name
    if axis.unit == "op":
        return lambda site: site.op
    return lambda site: site.path or graph.name


def _no_layer(axis: AxisConfig, graph: ModelGraph) -> ConfigError:
    paths = [site.path for site in graph.sites]
    globs = [p.text for p in patterns_of(axis.within) if p.kind == "glob"]
    return ConfigError(
        f"the axis '{axis.name}' matches no layer of {graph.name}",
        location=axis.location,
        notes=[note for glob in globs for note in suggest_paths(glob, paths)],
        help="list the layers with: fxbio inspect MODEL",
    )
