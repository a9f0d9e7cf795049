"""Routes put on a model: marks, feedback matrices, classifiers, and what is sent where."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fxbio.bind.binding import Delivery, Head, Routes, Unit, binding_of
from fxbio.bind.classes import bind_module, mark_module
from fxbio.bind.install import leave_to_each_rank
from fxbio.bind.loading import accept_stock_checkpoints
from fxbio.bind.observe import Observed, observe
from fxbio.bind.receivers import receiver_info, refused
from fxbio.bind.routed_units import RoutedUnit, routed_units
from fxbio.errors import PolicyError
from fxbio.graph.inputs import ExampleInputs
from fxbio.ops.inlet import LABEL
from fxbio.ops.mark import ENTER, LEAVE, SOURCE
from fxbio.policy.patterns import glob_matches, suggest_paths
from fxbio.policy.plan import Plan
from fxbio.rules.broadcast import ReceiverInfo
from fxbio.rules.draw import feedback_generator
from fxbio.rules.greedy import GreedyLearning

__all__ = ["RouteReport", "route_errors"]


@dataclass(frozen=True)
class RouteReport:
    """What was routed."""

    receivers: int
    exact: tuple[str, ...]
    """Units that no layer stands between and the source: its error reaches them by itself."""
    joined: dict[str, str]
    """Units that run into one tensor with another unit, which receives for both."""
    mebibytes: float
    """Of feedback matrices."""


@dataclass
class _Parts:
    """What is about to be attached to the model."""

    units: dict[str, Unit]
    deliveries: dict[tuple[str, str], Delivery] = field(default_factory=dict)
    matrices: dict[str, Tensor] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)
    """Name of a matrix by what it was drawn from: receivers may share one."""
    parameters: dict[str, Tensor] = field(default_factory=dict)
    """Of classifiers."""


def route_errors(model: nn.Module, plan: Plan, inputs: ExampleInputs) -> RouteReport:
    """Route the errors of a model as a plan says, in place.

    Raises:
        PolicyError: when there is no such source, when it is not computed from what should
            receive from it, or when a layer's error cannot be routed.
    """
    routed = routed_units(model, plan)
    sources = {each.unit.name: _sources(model, each) for each in routed}
    paths = tuple(sorted(set().union(*sources.values())))
    units = {each.unit.name: each.unit for each in routed}
    for name in units:
        mark_module(model.get_submodule(name), name, ENTER, LEAVE)
    for path in filter(None, paths):
        mark_module(model.get_submodule(path), path, SOURCE)
    observed = observe(model, Routes(units, paths, {}), inputs)
    if observed.exact:
        for name in observed.exact:
            units[name] = replace(units[name], point="exact")
        exact, observed = observed.exact, observe(model, Routes(units, paths, {}), inputs)
        observed.exact = exact
    parts = _Parts(units)
    for each in routed:
        _deliver(parts, each, sources[each.unit.name], observed, plan.seed)
    for name, first in observed.joined.items():
        if not any(unit == name for _, unit in parts.deliveries):
            parts.units[name] = replace(parts.units[name], served_by=first)
    _attach(model, parts, paths, plan.persist_feedback)
    return RouteReport(
        receivers=len({unit for _, unit in parts.deliveries}),
        exact=tuple(name for name in units if name in observed.exact),
        joined=observed.joined,
        mebibytes=sum(m.nbytes for m in parts.matrices.values()) / 2**20,
    )


def _sources(model: nn.Module, each: RoutedUnit) -> tuple[str, ...]:
    """Paths of the modules that a unit gets errors from; empty for the model's output."""
    modules = [path for path, _ in model.named_modules() if path]
    paths: list[str] = [] if each.rule.source else [""]
    for glob in each.rule.source:
        matching = [path for path in modules if glob_matches(glob, path)]
        if not matching:
            raise PolicyError(
                f"no module is called '{glob}', the source of the error of '{each.unit.name}'",
                notes=[f"decided by {each.unit.decided_by}", *suggest_paths(glob, modules)],
                help="name modules whose outputs the loss is computed from",
            )
        paths += matching
    return tuple(dict.fromkeys(paths))


def _deliver(
    parts: _Parts, each: RoutedUnit, sources: tuple[str, ...], observed: Observed, seed: int
) -> None:
    """Make what one unit needs, for each source that it gets errors from."""
    name = each.unit.name
    served = [source for source in sources if (source, name) in observed.above]
    elsewhere = observed.exact | set(observed.joined) | observed.without_history
    if not served and name not in elsewhere and each.site.calls:
        raise refused(each, sources[0], _problem(name, sources[0], observed))
    for source in served:
        _deliver_from(parts, each, receiver_info(each, source, observed), seed)


def _problem(name: str, source: str, observed: Observed) -> str:
    if source not in observed.sources:
        return f"'{source}' does not run, or returns no tensor"
    if name not in observed.receivers:
        return f"what '{name}' puts out is followed to no nonlinearity, no layer and no source"
    what = f"'{source}'" if source else "the output"
    return f"{what} is not computed from what '{name}' puts out"


def _deliver_from(parts: _Parts, each: RoutedUnit, info: ReceiverInfo, seed: int) -> None:
    rule, key = each.rule, (info.source, info.name)
    generator = feedback_generator(seed, rule.matrix_name(info))
    mean = getattr(rule, "reduction", "mean") == "mean"
    if isinstance(rule, GreedyLearning):
        parts.units[info.name] = replace(each.unit, head=_head(parts, rule, info, generator))
        parts.deliveries[key] = Delivery(LABEL, _keep(parts, LABEL, torch.zeros(0)), True, mean)
        return
    drawn_from = f"{rule}:{rule.matrix_name(info)}"
    if drawn_from not in parts.by_key:
        _keep(parts, drawn_from, rule.matrix(info, generator))
    attribute = parts.by_key[drawn_from]
    carrier = rule.carrier(info).spec()
    parts.deliveries[key] = Delivery(carrier, attribute, rule.sends_targets, mean)


def _keep(parts: _Parts, key: str, matrix: Tensor) -> str:
    if key not in parts.by_key:
        parts.by_key[key] = f"fxbio_route_{len(parts.matrices)}"
        parts.matrices[parts.by_key[key]] = matrix
    return parts.by_key[key]


def _head(
    parts: _Parts, rule: GreedyLearning, info: ReceiverInfo, generator: torch.Generator
) -> Head:
    """The classifier of a unit, its parameters among the parts."""
    known = parts.units[info.name].head
    if known is not None:
        raise PolicyError(
            f"'{info.name}' learns from one classifier, and has two sources",
            notes=[f"decided by {parts.units[info.name].decided_by}"],
            help="name one module as its 'source', or none for the output of the model",
        )
    layers = []
    for layer in rule.layers(info, generator):
        number = len(parts.parameters) // 2
        names = (f"fxbio_head_{number}_weight", f"fxbio_head_{number}_bias")
        parts.parameters |= {names[0]: layer.weight, names[1]: layer.bias}
        layers.append(names)
    return Head(info.channel_dim, rule.pooled(info), tuple(layers))


def _attach(model: nn.Module, parts: _Parts, sources: tuple[str, ...], persist: bool) -> None:
    like = next(p for p in model.parameters() if p.is_floating_point())
    for name, matrix in parts.matrices.items():
        model.register_buffer(name, matrix.to(like.device, like.dtype), persistent=persist)
    for name, parameter in parts.parameters.items():
        data = parameter.detach().to(like.device, like.dtype)
        model.register_parameter(name, nn.Parameter(data))
    leave_to_each_rank(model, [*parts.matrices])
    binding = binding_of(model)
    routes = Routes(parts.units, sources, parts.deliveries)
    attached = (*binding.attached, *parts.matrices, *parts.parameters)
    bind_module(model, replace(binding, routes=routes, attached=attached))
    accept_stock_checkpoints(model)
