"""From a plan to bindings: which module carries which weights, and the feedback of each."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fxbio.bind.binding import FEEDBACK_PREFIX, BoundWeight, resolve_attribute
from fxbio.graph.model_graph import ModelGraph
from fxbio.graph.site import Site
from fxbio.policy.plan import Plan
from fxbio.rules import Rule, WeightInfo
from fxbio.rules.draw import draw_feedback

__all__ = ["FeedbackSpec", "PendingModule", "build_bindings", "make_feedback"]


@dataclass(frozen=True)
class FeedbackSpec:
    """The backward path of one weight, as numbers: what rule, scale and drawn part it has."""

    rule: Rule
    spec: str
    info: WeightInfo
    shape: tuple[int, ...]
    """Shape of the drawn part."""
    scale: float
    drawn: Tensor | None


@dataclass
class PendingModule:
    """What is about to be put on one module."""

    weights: list[BoundWeight] = field(default_factory=list)
    feedback: dict[str, Tensor] = field(default_factory=dict)
    frozen: list[str] = field(default_factory=list)


def make_feedback(model: nn.Module, plan: Plan) -> dict[str, FeedbackSpec]:
    """The backward path of every rewritten site, by the name of the site.

    Sites of one weight share one ``FeedbackSpec``, and so one drawn tensor.
    """
    made: dict[tuple[str, tuple[int, ...]], FeedbackSpec] = {}
    by_site: dict[str, FeedbackSpec] = {}
    for assignment in plan.rewritten("asymmetric"):
        site = assignment.site
        key = (site.weight, site.feedback_shape)
        if key not in made:
            made[key] = _feedback_spec(model, site, plan.rule_of(assignment), plan.seed)
        by_site[site.name] = made[key]
    return by_site


@torch.no_grad()
def _feedback_spec(model: nn.Module, site: Site, rule: Rule, seed: int) -> FeedbackSpec:
    info = WeightInfo.of(site)
    weight = _values(model, site).detach().cpu() if rule.reads_weight() else None
    like = torch.empty(site.feedback_shape, device="meta") if weight is None else weight
    drawn = None
    if rule.draws:
        source = torch.empty(site.feedback_shape) if weight is None else weight
        drawn = draw_feedback(rule, source, info, seed)
    scale = rule.scale(like, info)
    return FeedbackSpec(rule, rule.spec(), info, site.feedback_shape, scale, drawn)


def _values(model: nn.Module, site: Site) -> Tensor:
    """The weight as a stock layer serves it, or the parameter itself."""
    name = f"{site.path}.weight" if site.leaf and site.path else site.weight
    value: Tensor = resolve_attribute(model, name)
    return value


def build_bindings(
    model: nn.Module, graph: ModelGraph, plan: Plan, feedback: dict[str, FeedbackSpec]
) -> dict[str, PendingModule]:
    """What each module must carry, by its path. Nothing is changed yet."""
    pending: dict[str, PendingModule] = {}
    for assignment in plan.rewritten("asymmetric"):
        site, path = assignment.site, feedback[assignment.site.name]
        module = pending.setdefault(site.owner, PendingModule())
        constants = tuple(_relative(site.owner, n) for n in graph.buffers.get(site.name, ()))
        _add_weight(module, site, path, constants, plan.seed)
        if not path.rule.trains_weight:
            module.frozen += _trainable(model, site, module.frozen)
    return pending


def _add_weight(
    module: PendingModule, site: Site, path: FeedbackSpec, constants: tuple[str, ...], seed: int
) -> None:
    if any(w.weight == site.weight and w.shape == path.shape for w in module.weights):
        return  # another use of the same weight
    buffer = None
    if path.drawn is not None:
        buffer = f"{FEEDBACK_PREFIX}{len(module.weights)}"
        module.feedback[buffer] = path.drawn
    module.weights.append(
        BoundWeight(
            weight=site.weight,
            attribute="weight" if site.leaf else _relative(site.owner, site.weight),
            sources=_sources(site),
            constants=constants,
            info=path.info,
            shape=path.shape,
            rule=path.spec,
            scale=path.scale,
            feedback=buffer,
            seed=seed,
            computed=site.computed,
        )
    )


def _sources(site: Site) -> tuple[str, ...]:
    if site.leaf and not site.derived:
        return ("weight",)
    return tuple(_relative(site.owner, name) for name in site.sources)


def _relative(owner: str, name: str) -> str:
    return name.removeprefix(f"{owner}.") if owner else name


def _trainable(model: nn.Module, site: Site, known: list[str]) -> list[str]:
    """Sources that learn at present, as attributes of the site's owner."""
    owner = model.get_submodule(site.owner)
    names = [n for n in _sources(site) if n not in known]
    return [n for n in names if resolve_attribute(owner, n).requires_grad]
