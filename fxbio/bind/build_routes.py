"""Routes put on a model: marks, feedback matrices, classifiers, and what is sent where."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fxbio.bind.binding import BINDING, Delivery, Mark, ModuleBinding, Routes, Unit
from fxbio.bind.classes import bind_module
from fxbio.bind.install import leave_to_each_rank
from fxbio.bind.routed_units import Observed, RoutedUnit, observe, routed_units
from fxbio.errors import PolicyError
from fxbio.graph.inputs import ExampleInputs
from fxbio.ops.broadcast import LABEL
from fxbio.ops.mark import ENTER, LEAVE, SOURCE
from fxbio.policy.patterns import glob_matches, suggest_paths
from fxbio.policy.plan import Plan
from fxbio.rules.broadcast import ConvGeometry, ReceiverInfo
from fxbio.rules.draw import feedback_generator
from fxbio.rules.greedy import GreedyLearning

__all__ = ["RouteReport", "route_errors"]


@dataclass
class RouteReport:
    """What was routed."""

    receivers: int = 0
    exact: list[str] = field(default_factory=list)
    """Units that no receiver stands behind: the error of the source reaches them itself."""
    mebibytes: float = 0.0
    """Of feedback matrices."""


@dataclass
class _Parts:
    """What is about to be attached to the model."""

    deliveries: dict[tuple[str, str], Delivery] = field(default_factory=dict)
    matrices: dict[str, Tensor] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)
    """Name of a matrix by what it was drawn from: receivers may share one."""
    heads: dict[str, nn.Module] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)


def route_errors(model: nn.Module, plan: Plan, inputs: ExampleInputs) -> RouteReport:
    """Route the errors of a model as a plan says, in place.

    Raises:
        PolicyError: when there is no such source, when it comes before what should receive from
            it, or when a layer's error cannot be routed.
    """
    routed = routed_units(model, plan)
    sources = _sources(model, routed)
    paths = sorted(set().union(*sources.values()))
    units = {r.unit.name: r.unit for r in routed}
    _mark(model, [*units], [path for path in paths if path])
    observed = observe(model, Routes(units, tuple(paths), {}), inputs)
    parts = _Parts(units=dict(units))
    report = RouteReport()
    for each in routed:
        if each.unit.name not in observed.receivers:
            report.exact.append(each.unit.name)
            continue
        report.receivers += 1
        for source in sources[each.unit.name]:
            _check_order(each, source, observed)
            _deliver(parts, each, source, observed, plan.seed)
    _attach(model, parts, tuple(paths), plan.persist_feedback)
    report.mebibytes = sum(m.numel() * 4 for m in parts.matrices.values()) / 2**20
    return report


def _sources(model: nn.Module, routed: list[RoutedUnit]) -> dict[str, tuple[str, ...]]:
    """Paths of the modules that each unit gets errors from; empty for the model's output."""
    modules = [path for path, _ in model.named_modules() if path]
    found: dict[str, tuple[str, ...]] = {}
    for each in routed:
        paths: list[str] = [] if each.rule.source else [""]
        for glob in each.rule.source:
            matching = [path for path in modules if glob_matches(glob, path)]
            if not matching:
                close = suggest_paths(glob, modules)
                raise PolicyError(
                    f"no module is called '{glob}', the source of the error of '{each.unit.name}'",
                    notes=close,
                    help="name modules whose outputs the loss is computed from",
                )
            paths += matching
        found[each.unit.name] = tuple(dict.fromkeys(paths))
    return found


def _mark(model: nn.Module, units: list[str], sources: list[str]) -> None:
    marks: dict[str, list[Mark]] = {}
    for name in units:
        marks.setdefault(name, []).extend((Mark(ENTER, name), Mark(LEAVE, name)))
    for name in sources:
        marks.setdefault(name, []).append(Mark(SOURCE, name))
    for name, added in marks.items():
        module = model.get_submodule(name)
        binding: ModuleBinding = getattr(module, BINDING, ModuleBinding(()))
        bind_module(module, replace(binding, marks=(*binding.marks, *added)))


def _check_order(each: RoutedUnit, source: str, observed: Observed) -> None:
    name = each.unit.name
    if source not in observed.sources:
        problem = f"the source '{source}' does not run"
    elif name not in observed.reached[source]:
        problem = f"the source '{source}' runs before '{name}'"
    elif observed.receivers[name][0] != observed.sources[source][0]:
        problem = (
            f"the error of '{source or 'the model'}' is {observed.sources[source]}, that of "
            f"'{name}' would be {observed.receivers[name]}: their first dimensions differ"
        )
    else:
        return
    raise PolicyError(
        f"'{name}' cannot receive the error of '{source or 'the model'}'",
        notes=[problem],
        help="name as source a module that runs after the layers which receive its error",
    )


def _deliver(parts: _Parts, each: RoutedUnit, source: str, observed: Observed, seed: int) -> None:
    info = _receiver_info(each, source, observed)
    generator = feedback_generator(seed, each.rule.matrix_name(info))
    rule, name = each.rule, each.unit.name
    mean = getattr(rule, "reduction", "mean") == "mean"
    if isinstance(rule, GreedyLearning):
        head = f"fxbio_head_{len(parts.heads)}"
        parts.heads[head] = _seeded_head(rule, info, generator)
        parts.units[name] = replace(each.unit, head=head)
        matrix = _keep(parts, LABEL, torch.zeros(0))
        parts.deliveries[source, name] = Delivery(LABEL, matrix, False, mean)
        return
    key = f"{rule}:{rule.matrix_name(info)}"
    matrix = _keep(parts, key, rule.matrix(info, generator))
    targets = rule.sends_targets
    parts.deliveries[source, name] = Delivery(rule.carrier(info).spec(), matrix, targets, mean)


def _keep(parts: _Parts, key: str, matrix: Tensor) -> str:
    if key not in parts.by_key:
        parts.by_key[key] = f"fxbio_route_{len(parts.matrices)}"
        parts.matrices[parts.by_key[key]] = matrix
    return parts.by_key[key]


def _receiver_info(each: RoutedUnit, source: str, observed: Observed) -> ReceiverInfo:
    shape, error = observed.receivers[each.unit.name], observed.sources[source]
    features = error[1] if len(error) > 3 else error[-1]
    inner = error[2:] if len(error) > 3 else error[1:-1]
    together = len(shape) == len(error) and shape[1:-1] == inner
    is_conv = each.site.op.startswith("conv")
    return ReceiverInfo(
        name=f"{each.unit.name} <- {source}" if source else each.unit.name,
        shape=shape,
        channel_dim=1 if is_conv else -1,
        classes=features,
        leading=len(error) - 1 if together and inner else 1,
        largest=max(_entries(other) for other in observed.receivers.values()),
        conv=_conv_geometry(each) if is_conv and each.unit.point == "input" else None,
    )


def _entries(shape: tuple[int, ...]) -> int:
    return torch.Size(shape[1:]).numel()


def _conv_geometry(each: RoutedUnit) -> ConvGeometry:
    site, layer = each.site, each.layer
    kernel = site.shape[2:]
    spans = [d * (k - 1) for d, k in zip(layer.dilation, kernel, strict=True)]
    padding = layer.padding
    if isinstance(padding, str):
        padding = tuple(span // 2 if layer.padding == "same" else 0 for span in spans)
    outputs = site.output_shape[-len(kernel) :]
    return ConvGeometry(kernel, layer.stride, padding, layer.dilation, outputs)


def _seeded_head(rule: GreedyLearning, info: ReceiverInfo, generator: torch.Generator) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        return rule.head(info)


def _attach(model: nn.Module, parts: _Parts, sources: tuple[str, ...], persist: bool) -> None:
    like = next(model.parameters())
    for name, matrix in parts.matrices.items():
        model.register_buffer(name, matrix.to(like.device, like.dtype), persistent=persist)
    for name, head in parts.heads.items():
        model.add_module(name, head.to(like.device, like.dtype))
    leave_to_each_rank(model, [*parts.matrices])
    binding: ModuleBinding = getattr(model, BINDING, ModuleBinding(()))
    routes = Routes(parts.units, sources, parts.deliveries)
    attached = (*parts.matrices, *parts.heads)
    bind_module(model, replace(binding, routes=routes, attached=attached))
