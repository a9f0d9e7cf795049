"""Comparing every site of a transformed model with the oracle, and with backprop."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.graph.state_guard import Snapshot, outside_inference_mode, preserved
from fxbio.models.inputs import as_example_inputs
from fxbio.ops.labels import unchecked_labels
from fxbio.policy.assignment import Assignment
from fxbio.policy.plan import Plan
from fxbio.rules import FeedbackRule
from fxbio.runtime.install import backprop
from fxbio.serialization.record import record_of
from fxbio.tensors.nested import tensors_in
from fxbio.verification.changes import changed_sites, failed, unbound_weights
from fxbio.verification.oracle import (
    backprop_errors,
    feedback_in_call,
    oracle_gradients,
    replayed_output,
    stock_output,
    with_random_error,
)
from fxbio.verification.probe import OpCall
from fxbio.verification.result import SiteVerdict, Verification
from fxbio.verification.routes import judge_routes
from fxbio.verification.targets import judge_connection
from fxbio.verification.witness import Witness, ruled_parameters, silent_backprop
from fxbio.wrappers import unwrapped

__all__ = ["verify"]

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 1e-2}
"""Largest difference from the oracle that rounding explains, relative to the largest entry."""


@outside_inference_mode()
def verify(model: nn.Module, example_inputs: Any = None) -> Verification:
    """Compare every rewritten site of a transformed model with the oracle.

    The model runs forward and backward once on the example inputs, in training mode. For each
    call of a rule op the output and the gradients by its operands are compared with
    what plain torch functions and autograd give, and the error sent below with backprop's. The
    model is left as it was, gradients, buffers and random state included. Where planned layers
    were changed or exchanged since, nothing runs, and they are what fails.

    Args:
        model: a transformed model, in wrappers such as DDP too.
        example_inputs: as for ``capture``; by default those that the model was captured with.

    Raises:
        ModelError: when the model was not transformed.
    """
    model = unwrapped(model)
    record = record_of(model)
    inputs = record.inputs if example_inputs is None else as_example_inputs(example_inputs)
    changed = changed_sites(model, record.plan)
    if changed:  # it may not even run
        silent = unbound_weights(model, record.plan)
        return Verification(type(model).__name__, tuple(changed), True, silent, ())
    args, kwargs = inputs.args, dict(inputs.kwargs)
    before = Snapshot(model, (args, kwargs))
    learning = [(p, p.requires_grad) for p in model.parameters()]
    with backprop(model):
        for parameter, learns in learning:  # torch chooses kernels by it, and so the last digits
            parameter.requires_grad_(learns)
        expected = _outputs(before, args, kwargs)
    outputs = _outputs(before, args, kwargs)
    witness = Witness(model, record.plan)
    with preserved(before):
        for parameter in model.parameters():
            parameter.grad = None
        results = list(tensors_in(witness.run(model, args, kwargs)))
        with witness.probe, unchecked_labels():  # a random error is that of no labels
            _backward(results)
        trained = {name for name, p in model.named_parameters() if p.grad is not None}
    must_run = example_inputs is None  # others may take other branches
    return _judge(model, witness, trained, _all_equal(outputs, expected), must_run)


def _outputs(before: Snapshot, args: Any, kwargs: Any) -> list[Tensor]:
    """The outputs without a witness, under whom torch chooses other kernels here and there."""
    with preserved(before, watched=False), torch.enable_grad():
        return [t.detach() for t in tensors_in(before.model(*args, **kwargs))]


def _backward(outputs: list[Tensor]) -> None:
    """Send a random error into every output: a loss could leave some of them out."""
    generator = torch.Generator().manual_seed(0)
    roots = [t for t in outputs if t.requires_grad]
    errors = [torch.randn(t.shape, generator=generator).to(t) for t in roots]
    if roots:
        # torch.autograd.backward would take the probe off, and calls that are recomputed for
        # activation checkpointing would go unseen.
        engine = torch.autograd.Variable._execution_engine
        engine.run_backward(
            tuple(roots),
            tuple(errors),
            False,
            False,
            (),
            allow_unreachable=True,
            accumulate_grad=True,
        )


def _all_equal(outputs: list[Tensor], expected: list[Tensor]) -> bool:
    if len(outputs) != len(expected):
        return False
    return all(
        a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(outputs, expected, strict=True)
    )


def _judge(
    model: nn.Module, witness: Witness, trained: set[str], outputs_equal: bool, must_run: bool
) -> Verification:
    plan = record_of(model).plan
    by_weight: dict[tuple[str, str], list[Assignment]] = defaultdict(list)
    for assignment in plan.rewritten("asymmetric"):
        by_weight[assignment.site.weight, assignment.make_rule().spec()].append(assignment)
    rows, idle = [], []
    silent = silent_backprop(plan, witness)
    for (_, spec), assignments in by_weight.items():
        sources = {source for a in assignments for source in a.site.sources}
        calls = [
            call
            for call in witness.probe.calls
            if call.arguments["rule"] == spec and call.sources & sources
        ]
        ran = set().union(*(witness.rules.get(source, ()) for source in sources))
        if calls:
            rows.append(_judge_weight(assignments[0], calls))
            continue
        if spec not in ran and (ran or (must_run and assignments[0].site.calls)):
            rows.append(failed(assignments[0], "its rule was never run"))
        idle.append(assignments[0].site.name)
        silent |= sources & trained & ruled_parameters(plan)  # not by a rule op, so by what?
    silent |= _frozen(plan) & trained
    rows += [judge_connection(found) for found in witness.connections]
    rows += judge_routes(model, plan, witness.probe.deliveries)
    return Verification(
        model=type(model).__name__,
        rows=tuple(rows),
        outputs_equal=outputs_equal,
        silent_backprop=tuple(sorted(silent)),
        idle=tuple(idle),
    )


def _frozen(plan: Plan) -> set[str]:
    """Parameters that their rule does not train, but another use may if they are switched on."""
    ruled = plan.ruled_by(FeedbackRule)
    return {s for a, rule in ruled if not rule.trains_weight for s in a.site.sources}


def _judge_weight(assignment: Assignment, calls: list[OpCall]) -> SiteVerdict:
    forward_equal = all(torch.equal(replayed_output(call), stock_output(call)) for call in calls)
    reached = [call for call in calls if call.error is not None]  # to others nothing was sent back
    judged = [_judge_call(call if _sends(call) else with_random_error(call)) for call in reached]
    problems = [j.problem for j in judged if j.problem is not None]
    if not forward_equal:
        problems = ["the forward pass differs"]
    known = [j.differs for j in judged if j.differs is not None]
    return SiteVerdict(
        site=assignment.site.name,
        rule=str(assignment.make_rule()),
        calls=len(calls),
        forward_equal=forward_equal,
        gradient_error=max((j.error for j in judged), default=0.0),
        differs_from_bp=any(known) if known else None,
        problem=problems[0] if problems else None,
        gain=max((j.gain for j in judged if j.gain is not None), default=None),
    )


def _sends(call: OpCall) -> bool:
    return call.error is not None and bool(call.error.any())


@dataclass(frozen=True)
class _CallVerdict:
    error: float
    """Largest relative difference from the oracle's gradients."""
    differs: bool | None
    """From backprop, in what is sent below; ``None`` where nothing is."""
    gain: float | None
    """Norm of what is sent below, by that of what backprop would send."""
    problem: str | None


def _judge_call(call: OpCall) -> _CallVerdict:
    assert call.error is not None
    feedback = feedback_in_call(call)
    expected = oracle_gradients(call, call.error, feedback)
    error = _largest_difference(call, expected, _magnitudes(call, call.error, feedback))
    differs, should, gain = _compare_with_backprop(call, call.error, feedback)
    problem = None
    if error > _TOLERANCE.get(call.dtype, 1e-4):
        problem = "gradients differ from the oracle's"
    elif should and differs is False:
        problem = "sends the error that backprop sends"
    elif feedback is not None and call.weight.any() and not feedback.any():
        problem = "its feedback is all zeros, so it sends no error"
    return _CallVerdict(error, differs, gain, problem)


def _magnitudes(call: OpCall, error: Tensor, feedback: Tensor | None) -> Callable[[str], float]:
    """Magnitudes of the terms whose sum a gradient is.

    They may cancel, exactly so for the bias of an attention's keys; what is left is rounding.
    """
    largest = float(error.abs().max())
    arguments = {k: v for k, v in call.arguments.items() if _is_floating(v)}
    inputs = [v for k, v in arguments.items() if k not in (call.weight_name, "bias", "feedback")]
    by_input = max((float(v.detach().abs().max()) for v in inputs if v.numel()), default=1.0)
    by_weight = 1.0 if feedback is None else float(feedback.detach().abs().max())
    factors = {"bias": 1.0, call.weight_name: by_input, "feedback": by_input}
    return lambda key: largest * factors.get(key, by_weight)


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _largest_difference(
    call: OpCall, expected: dict[str, Tensor | None], magnitude: Callable[[str], float]
) -> float:
    worst = 0.0
    for key, want in expected.items():
        got = call.gradients.get(key)
        if want is None or got is None:
            missing = want if got is None else got
            worst = max(worst, 0.0 if missing is None else float(missing.abs().max() > 0))
            continue
        scale = max(float(want.abs().max()), magnitude(key), torch.finfo(want.dtype).tiny)
        worst = max(worst, _largest_entry(got, want) / scale)
    return worst


def _largest_entry(got: Tensor, want: Tensor) -> float:
    """Largest difference of two entries; infinite where only one is not a number."""
    difference = (got - want).abs()
    largest = float(difference.max())
    if math.isfinite(largest):
        return largest
    same = (got == want) | (got.isnan() & want.isnan())  # infinities, too
    return float(difference.masked_fill(same, 0.0).nan_to_num(nan=math.inf).max())


def _compare_with_backprop(
    call: OpCall, error: Tensor, feedback: Tensor | None
) -> tuple[bool | None, bool, float | None]:
    """Error sent below beside backprop's: whether they differ, whether they should, the gain."""
    sent = call.sent
    if not sent or feedback is None:
        return None, False, None
    backprop_sends = backprop_errors(call, error)
    differs = any(
        want is None or not torch.allclose(sent[key], want, rtol=1e-4, atol=0.0)
        for key, want in backprop_sends.items()
    )
    return differs, not torch.equal(feedback, call.weight), _gain(sent, backprop_sends)


def _gain(sent: dict[str, Tensor], backprop_sends: dict[str, Tensor | None]) -> float | None:
    norm = math.hypot(*(float(sent[key].norm()) for key in sent))
    usual = [backprop_sends[key] for key in sent if backprop_sends.get(key) is not None]
    usual_norm = math.hypot(*(float(want.norm()) for want in usual if want is not None))
    return norm / usual_norm if usual_norm else None
