"""Tracing the training step of a model, and saying what its backward pass reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from torch import nn

from fxbio.analysis.audit_report import Audit, AuditRow, Transport
from fxbio.analysis.probe_losses import Loss, as_loss
from fxbio.analysis.step_trace import StepTrace, trace_step
from fxbio.analysis.traced_error_flow import ErrorFlow
from fxbio.analysis.traced_sites import Use, find_uses, forward_weights
from fxbio.analysis.value_facts import Level
from fxbio.analysis.weight_transport import Meeting, find_meetings, used_values
from fxbio.graph.capture import capture, example_inputs_for, run_for_structure
from fxbio.graph.check_model import check_capturable
from fxbio.graph.state_guard import outside_inference_mode
from fxbio.ops.labels import unchecked_labels
from fxbio.policy.assignment import Assignment
from fxbio.policy.plan import Plan
from fxbio.rules import FeedbackRule, Rule
from fxbio.serialization.record import RECORD, record_of
from fxbio.site import Site
from fxbio.wrappers import unwrapped

__all__ = ["audit"]

_TRANSPORTS: dict[Level, Transport] = {
    Level.NONE: "none",
    Level.SIGN: "sign",
    Level.MAGNITUDE: "magnitude",
    Level.FULL: "full",
}


@outside_inference_mode()
def audit(model: nn.Module, example_inputs: Any = None, loss: Loss | None = None) -> Audit:
    """List what the backward pass of a training step reads of the forward weights.

    One step (forward in training mode, loss, backward) is recorded at the level of aten operations,
    on fake tensors where that is possible. A weight that meets an error in the backward pass, by
    itself or computed from parameters alone, is *transported*; if only a sign or comparisons with
    zero lie between, its sign is; if only an absolute value or norm does, its magnitude is. A
    buffer is no forward weight, even where it holds an old copy of one; copies that training
    refreshes, as rules declare by ``transports``, are told apart. The model is left as it was.

    It is a statement about the program, not about intentions: rules, hooks, and backward formulas
    of a user's own are all seen. Weights that were mixed with data before they meet an error, such
    as the keys of an attention layer, are activations.

    Args:
        model: transformed or not.
        example_inputs: as for ``capture``; by default those of a transformed model, or known ones.
        loss: from the model's output to a scalar; by default one that reaches every output.

    Raises:
        ModelError: when no example input is known, or the loss is none.
        CaptureError: when the forward fails.
    """
    model = unwrapped(model)
    check_capturable(model)
    transformed = RECORD in vars(model)
    if example_inputs is None and transformed:
        example_inputs = record_of(model).inputs
    inputs = example_inputs_for(model, example_inputs)
    plan = record_of(model).plan if transformed else None
    seen = plan or capture(model, inputs)
    sites = [a.site for a in seen.assignments] if isinstance(seen, Plan) else seen.sites
    hidden = {name for part in seen.unreachable for name in part.weights}

    def run(args: Any, kwargs: Any) -> StepTrace:
        with unchecked_labels():
            return trace_step(model, args, kwargs, as_loss(loss))

    trace = run_for_structure(model, inputs, run)
    return _judged(model, trace, sites, plan, hidden)


def _judged(
    model: nn.Module,
    trace: StepTrace,
    sites: Iterable[Site],
    plan: Plan | None,
    hidden: set[str],
) -> Audit:
    sites = list(sites)
    uses = {use.site.name: use for use in find_uses(trace, sites)}
    meetings = find_meetings(trace)
    flow = ErrorFlow(trace, list(uses.values()), meetings)
    weights = forward_weights(trace)
    by_site = _by_site(uses, meetings)
    decided = {a.site.name: a for a in plan.assignments} if plan else {}
    rows = [
        _row(site, uses.get(site.name), by_site[site.name], flow, decided.get(site.name))
        for site in sites
    ]
    known = {name for site in sites for name in site.sources}
    others = [m for m in meetings if m.name in weights - known]
    return Audit(
        model=type(model).__name__,
        policy=(plan.policy_source or "policy without a file") if plan else None,
        rows=tuple(rows),
        others=tuple(_other_rows(model, others, hidden)),
        unused=tuple(_unused(trace, uses.values())),
        carriers=tuple(sorted({m.name for m in meetings} - weights)),
    )


def _by_site(uses: dict[str, Use], meetings: list[Meeting]) -> dict[str, list[Meeting]]:
    """The meetings of each site: its own, and those of its weight in places that are no site."""
    own = {node: use.site for use in uses.values() for node in use.nodes}
    found: dict[str, list[Meeting]] = defaultdict(list)
    for name, use in uses.items():
        for meeting in meetings:
            at = own.get(meeting.step.node)
            elsewhere = at is None or meeting.name not in at.sources
            if meeting.step.node in use.nodes or (elsewhere and meeting.name in use.site.sources):
                found[name].append(meeting)
    return found


def _row(
    site: Site,
    use: Use | None,
    meetings: list[Meeting],
    flow: ErrorFlow,
    decided: Assignment | None,
) -> AuditRow:
    weights = [m for m in meetings if m.name in site.sources]
    rule = decided.make_rule() if decided else None
    transport = _transport(weights)
    if transport == "full" and site.op == "norm":
        transport = "magnitude"
    if transport == "none" and meetings and rule is not None and rule.transports == "copies":
        transport = "refreshed" if _changes_feedback(rule) else "copy"
    return AuditRow(
        site=site.name,
        op=site.op,
        type=site.type,
        rule=str(rule) if rule else "",
        transport=transport,
        input_only=bool(weights) and not any(m.learns for m in weights),
        carriers=tuple(sorted({m.name for m in meetings} - set(site.sources))),
        sources=tuple(flow.sources(use)) if use and site.op != "norm" else (),
        decided_by=str(decided.decided_by) if decided else "",
        ran=use is not None,
    )


def _changes_feedback(rule: Rule) -> bool:
    return isinstance(rule, FeedbackRule) and (rule.learns or rule.redraw_period() > 0)


def _transport(meetings: Iterable[Meeting]) -> Transport:
    level = Level.NONE
    for meeting in meetings:
        level |= meeting.level
    return _TRANSPORTS[level]


def _other_rows(model: nn.Module, meetings: list[Meeting], hidden: set[str]) -> Iterable[AuditRow]:
    """Parameters that no site applies: scales of layers, parametric activations, hidden weights.

    A vector is a mere scale unless it mixes entries, as a filter does: then it is ``hidden``, one
    of the weights that are applied where no rule reaches.
    """
    parameters = dict(model.named_parameters())
    for name in sorted({m.name for m in meetings}):
        own = [m for m in meetings if m.name == name]
        transport = _transport(own)
        vector = sum(size > 1 for size in parameters[name].shape) <= 1 and name not in hidden
        where = sorted({m.step.owner for m in own if m.step.owner})
        yield AuditRow(
            site=name,
            op="scale" if vector else "parameter",
            type=", ".join(where),
            rule="",
            transport="magnitude" if vector and transport == "full" else transport,
            input_only=not any(m.learns for m in own),
        )


def _unused(trace: StepTrace, uses: Iterable[Use]) -> list[str]:
    """Sites at which the backward pass computes what no parameter learns from."""
    names = {node: use.site.name for use in uses for node in use.nodes}
    used = used_values(trace, [*trace.gradients.values(), *trace.input_gradients])
    found: dict[str, None] = {}
    for step in trace.backward():
        if step.owner and not used.intersection(step.writes):
            place = names.get(step.node, step.owner)
            found[f"{place}: {step.op.overloadpacket.__name__}"] = None
    return list(found)
