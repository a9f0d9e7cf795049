"""The feedback of a plan as numbers: drawn, learned, scaled, before any graph is rewritten."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fxbio.errors import RuleError
from fxbio.policy.plan import Plan
from fxbio.rules import FeedbackRule, WeightInfo
from fxbio.rules.seeding import feedback_generator
from fxbio.runtime.binding import resolve_attribute
from fxbio.site import Site

__all__ = ["FeedbackSpec", "make_feedback"]


@dataclass(frozen=True)
class FeedbackSpec:
    """The backward path of one weight, as numbers: what rule, scale and drawn part it has."""

    rule: FeedbackRule
    info: WeightInfo
    shape: tuple[int, ...]
    """Shape of the drawn part."""
    scale: float
    drawn: Tensor | None
    learned: nn.Parameter | None = None

    @property
    def spec(self) -> str:
        """Spec string of the rule, as ops take it."""
        return self.rule.spec()

    @property
    def stored(self) -> bool:
        """True if anything of it is kept in a module."""
        return self.drawn is not None or self.learned is not None


def make_feedback(model: nn.Module, plan: Plan) -> dict[str, FeedbackSpec]:
    """The backward path of every rewritten site, by the name of the site.

    Sites of one weight share one ``FeedbackSpec``, and so one drawn tensor.
    """
    made: dict[tuple[str, tuple[int, ...]], FeedbackSpec] = {}
    by_site: dict[str, FeedbackSpec] = {}
    for assignment, rule in plan.ruled_by(FeedbackRule):
        site = assignment.site
        key = (site.weight, site.feedback_shape)
        if key not in made:
            made[key] = _feedback_spec(model, site, rule, plan.seed)
        by_site[site.name] = made[key]
    return by_site


@torch.no_grad()
def _feedback_spec(model: nn.Module, site: Site, rule: FeedbackRule, seed: int) -> FeedbackSpec:
    info = WeightInfo.of(site)
    weight = _values(model, site).detach().cpu() if rule.reads_weight() else None
    if weight is None:
        stored = rule.draws or rule.learns
        weight = torch.empty(site.feedback_shape, device=None if stored else "meta")
    generator = feedback_generator(seed, info.name)
    drawn = rule.draw(weight, info, generator)
    learned = rule.learned(weight, info, generator)
    device, dtype = _device_and_dtype(model, site)
    for method, made in (("draw", drawn), ("learned", learned)):
        if method in rule.defines and made is None:
            raise RuleError(f"{method}() of rule '{rule.name}' returned nothing for '{info.name}'")
    return FeedbackSpec(
        rule,
        info,
        site.feedback_shape,
        rule.scale(weight, info),
        None if drawn is None else drawn.to(device, dtype),
        None
        if learned is None
        else nn.Parameter(learned.to(device, dtype), rule.learns_by_gradient()),
    )


def _device_and_dtype(model: nn.Module, site: Site) -> tuple[torch.device, torch.dtype]:
    """Device of a weight, and its dtype; of one that is made of integers, the default one."""
    sources: list[Tensor] = [resolve_attribute(model, name) for name in site.sources]
    like = next((s for s in sources if s.is_floating_point()), sources[0])
    return like.device, like.dtype if like.is_floating_point() else torch.get_default_dtype()


def _values(model: nn.Module, site: Site) -> Tensor:
    """The weight as a stock layer serves it, or the parameter itself."""
    name = f"{site.path}.weight" if site.leaf and site.path else site.weight
    value: Tensor = resolve_attribute(model, name)
    return value
