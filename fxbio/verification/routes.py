"""Receivers of routed errors: what each was sent, what it should have been, and what else came."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fxbio.policy.assignment import Assignment
from fxbio.policy.plan import Plan
from fxbio.runtime.module_state import binding_of
from fxbio.semantics.error_routing import Unit
from fxbio.verification.probe import Arrival, Delivered
from fxbio.verification.result import SiteVerdict
from fxbio.verification.route_oracle import expected_at

__all__ = ["judge_routes", "route_faults"]

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 1e-2}
"""Largest difference that rounding explains, relative to the largest entry; the oracle reckons
in float32, or float64 where the model does."""


def judge_routes(model: nn.Module, plan: Plan, calls: list[Delivered]) -> Iterator[SiteVerdict]:
    """One verdict for each unit whose error is routed, from one forward and backward pass."""
    planned = {_unit_of(model, a): a for a in plan.rewritten("broadcast", "local")}
    for unit, assignment in planned.items():
        rule = str(assignment.make_rule())
        if unit is None:
            yield _verdict(assignment.site.name, rule, problem="its error is not routed")
        else:
            yield _judge_unit(model, unit, rule, calls)


def route_faults(model: nn.Module, plan: Plan, calls: list[Delivered]) -> list[str]:
    """Planned sites that no error was routed to in one forward pass."""
    faults = []
    for assignment in plan.rewritten("broadcast", "local"):
        unit = _unit_of(model, assignment)
        problem = "its error is not routed" if unit is None else _missing(model, unit, calls)
        if problem and assignment.site.calls:
            faults.append(f"{assignment.site.name}: {problem}")
    return faults


def _unit_of(model: nn.Module, assignment: Assignment) -> Unit | None:
    """The unit that a planned site belongs to."""
    routes, owner = binding_of(model).routes, assignment.site.owner
    if routes is None:
        return None
    parts = owner.split(".")
    paths = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return next((routes.units[path] for path in paths if path in routes.units), None)


def _missing(model: nn.Module, unit: Unit, calls: list[Delivered]) -> str | None:
    """Reason why no error is on its way to a unit; ``None`` if one is, or nothing learns there."""
    learns = any(p.requires_grad for p in model.get_submodule(unit.name).parameters())
    routes = binding_of(model).routes
    assert routes is not None
    if unit.point == "exact" or not learns:
        return None
    if unit.served_by is not None:
        return _missing(model, routes.units[unit.served_by], calls)
    if unit.point == "input" and not any(name == unit.name for _, name in routes.deliveries):
        return None  # what goes into it is the input of the model
    sent = {arrival.name for call in calls for arrival in call.arrivals}
    return None if unit.name in sent else "no error was sent to it"


def _judge_unit(model: nn.Module, unit: Unit, rule: str, calls: list[Delivered]) -> SiteVerdict:
    if unit.point == "exact":
        return _verdict(unit.name, rule, path="the error itself")
    if unit.served_by is not None:
        return _verdict(unit.name, rule, path=f"with {unit.served_by}")
    missing = _missing(model, unit, calls)
    if missing is not None:
        return _verdict(unit.name, rule, problem=missing)
    pairs = [
        (call, arrival)
        for call in calls
        if call.error is not None
        for arrival in call.arrivals
        if arrival.name == unit.name
    ]
    if not pairs:
        return _verdict(unit.name, rule, path="nothing learns there")
    errors = [_difference(call, arrival) for call, arrival in pairs]
    if not all(map(math.isfinite, errors)):
        return _verdict(unit.name, rule, len(pairs), problem="the errors are not finite")
    error = max(errors)
    met = (tensor.dtype for call, at in pairs for tensor in (call.output, at.receiver))
    tolerance = max(_TOLERANCE.get(dtype, 1e-4) for dtype in met)
    alone = all(_alone(calls, arrival) for _, arrival in pairs)
    problem = None
    if error > tolerance:
        problem = "was sent another error than its rule says"
    elif unit.cut and unit.point != "input" and not alone:
        problem = "another error arrives there, too"
    path = "directly, nothing else" if alone else "directly, others added"
    return _verdict(unit.name, rule, len(pairs), error, path, problem)


def _verdict(
    site: str,
    rule: str,
    calls: int = 0,
    error: float = 0.0,
    path: str = "",
    problem: str | None = None,
) -> SiteVerdict:
    return SiteVerdict(site, rule, calls, True, error, None, problem, path)


def _difference(call: Delivered, arrival: Arrival) -> float:
    """From the oracle, relative to the largest entry."""
    if arrival.sent is None:
        return 1.0
    wanted = expected_at(call, arrival)
    found = arrival.sent[: len(wanted)].to(wanted.dtype)
    scale = max(float(wanted.abs().max()), torch.finfo(wanted.dtype).tiny)
    return float((found - wanted).abs().max()) / scale


def _alone(calls: list[Delivered], arrival: Arrival) -> bool:
    """True if nothing arrived at a receiver but what was sent there, by all sources together."""
    shares = [
        other.sent
        for call in calls
        for other in call.arrivals
        if other.receiver is arrival.receiver and other.sent is not None
    ]
    if arrival.arrived is None or not shares:
        return False
    whole: Tensor = sum(shares[1:], shares[0])
    return torch.allclose(arrival.arrived, whole, rtol=1e-3, atol=1e-5 * float(whole.abs().max()))
