"""Planned sites of a model whose layers were exchanged or changed after ``transform``."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from fxbio.policy.assignment import Assignment
from fxbio.policy.plan import Plan
from fxbio.runtime.classes import is_bound
from fxbio.runtime.module_state import binding_of
from fxbio.runtime.structure_changes import CHANGE_AND_REPEAT, change_of
from fxbio.verification.result import SiteVerdict

__all__ = ["changed_sites", "failed", "unbound_weights"]


def changed_sites(model: nn.Module, plan: Plan) -> list[SiteVerdict]:
    """A failure for each planned site that is not what ``transform`` made."""
    own = binding_of(model)
    marked = set(own.routes.units if own.routes else ()) | set(
        own.targets.units if own.targets else ()
    )
    weights = {a.site.owner: a for a in plan.rewritten("asymmetric")}
    routed = {a.site.path: a for a in plan.rewritten() if a.site.path in marked}
    return [
        failed(assignment, f"{change}: {CHANGE_AND_REPEAT}")
        for path, assignment in {**weights, **routed}.items()
        for change in _changes(model, path)
    ]


def unbound_weights(model: nn.Module, plan: Plan) -> tuple[str, ...]:
    """Parameters of rewritten sites whose layer has no rule any more."""
    modules = dict(model.named_modules())
    rewritten = plan.rewritten("asymmetric")
    unbound = [a.site for a in rewritten if not is_bound(modules.get(a.site.owner))]
    return tuple(sorted({source for site in unbound for source in site.sources}))


def _changes(model: nn.Module, path: str) -> Iterator[str]:
    try:
        module = model.get_submodule(path)
    except AttributeError:
        yield "there is no such module any more"
        return
    if not is_bound(module):
        yield f"it was replaced by a {type(module).__qualname__} without a rule"
    for weight in binding_of(module).weights:
        change = change_of(module, weight)
        if change is not None:
            yield change


def failed(assignment: Assignment, problem: str) -> SiteVerdict:
    """The verdict on a site that did not run its rule."""
    return SiteVerdict(
        site=assignment.site.name,
        rule=str(assignment.make_rule()),
        calls=0,
        forward_equal=True,
        gradient_error=0.0,
        differs_from_bp=None,
        problem=problem,
    )
