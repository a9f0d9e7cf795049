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
from fxbio.rules.draw import feedback_generator

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
    learned: nn.Parameter | None = None

    @property
    def stored(self) -> bool:
        """Whether anything of it is kept in a module."""
        return self.drawn is not None or self.learned is not None


@dataclass
class PendingModule:
    """What is about to be put on one module."""

    weights: list[BoundWeight] = field(default_factory=list)
    feedback: dict[str, Tensor] = field(default_factory=dict)
    """Drawn parts, by the name of the buffer."""
    learned: dict[str, nn.Parameter] = field(default_factory=dict)
    """Learned parts, by the name of the parameter."""
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
    if weight is None:
        stored = rule.draws or rule.learns
        weight = torch.empty(site.feedback_shape, device=None if stored else "meta")
    generator = feedback_generator(seed, info.name)
    drawn = rule.draw(weight, info, generator)
    learned = rule.learned(weight, info, generator)
    assert (drawn is not None, learned is not None) == (rule.draws, rule.learns), rule.name
    return FeedbackSpec(
        rule,
        rule.spec(),
        info,
        site.feedback_shape,
        rule.scale(weight, info),
        drawn,
        None if learned is None else _parameter(model, site, rule, learned),
    )


def _parameter(model: nn.Module, site: Site, rule: Rule, learned: Tensor) -> nn.Parameter:
    """What is learned, where the weight is and in its dtype."""
    like: Tensor = resolve_attribute(model, site.sources[0])
    return nn.Parameter(learned.to(like.device, like.dtype), rule.learns_by_gradient())


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
    applied = plan.applied
    for assignment in plan.rewritten("asymmetric"):
        site, path = assignment.site, feedback[assignment.site.name]
        module = pending.setdefault(site.owner, PendingModule())
        constants = tuple(_relative(site.owner, n) for n in graph.buffers.get(site.name, ()))
        _add_weight(module, site, path, constants, plan.seed, applied.issuperset(site.sources))
        if not path.rule.trains_weight:
            module.frozen += _trainable(model, site, module.frozen)
    return pending


def _add_weight(
    module: PendingModule,
    site: Site,
    path: FeedbackSpec,
    constants: tuple[str, ...],
    seed: int,
    applied: bool,
) -> None:
    if any(w.weight == site.weight and w.shape == path.shape for w in module.weights):
        return  # another use of the same weight
    buffer, parameter = _store(module, path)
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
            applied=applied,
            learned=parameter,
            combine=None if type(path.rule).path is Rule.path else path.rule,
        )
    )


def _store(module: PendingModule, path: FeedbackSpec) -> tuple[str | None, str | None]:
    """Put the drawn and the learned part on a module; the names of the two, if they exist."""
    name = f"{FEEDBACK_PREFIX}{len(module.weights)}"
    buffer = name if path.learned is None else f"{name}_drawn"
    if path.learned is not None:
        module.learned[name] = path.learned
    if path.drawn is not None:
        module.feedback[buffer] = path.drawn
    return buffer if path.drawn is not None else None, name if path.learned is not None else None


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
