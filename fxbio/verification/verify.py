"""Comparing every site of a transformed model with the oracle, and with backprop."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.bind.install import backprop
from fxbio.graph.capture import preserved
from fxbio.graph.inputs import as_example_inputs
from fxbio.graph.taint import tensors_in
from fxbio.policy.plan import Assignment, Plan
from fxbio.record.record import record_of
from fxbio.verification.oracle import feedback_in_call, oracle_gradients, stock_output
from fxbio.verification.probe import OpCall
from fxbio.verification.verification import SiteVerdict, Verification
from fxbio.verification.witness import Witness, silent_backprop

__all__ = ["verify"]

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 4e-2, torch.float16: 1e-2}
"""Largest difference from the oracle that rounding explains, relative to the largest entry."""


def verify(model: nn.Module, example_inputs: Any = None) -> Verification:
    """Compare every rewritten site of a transformed model with the oracle.

    The model runs forward and backward once on the example inputs, in training mode. For each
    call of a rule op the output and the gradients by input, weight and bias are compared with
    what plain torch functions and autograd give, and the error sent below with backprop's. The
    model is left as it was, gradients, buffers and random state included.

    Args:
        model: a transformed model.
        example_inputs: as for ``capture``; by default those that the model was captured with.

    Raises:
        ModelError: when the model was not transformed.
    """
    record = record_of(model)
    plan = record.plan
    inputs = record.inputs if example_inputs is None else as_example_inputs(example_inputs)
    args, kwargs = inputs.args, dict(inputs.kwargs)
    with _untouched(model), backprop(model), torch.enable_grad():
        expected = [t.detach() for t in tensors_in(model(*args, **kwargs))]
    witness = Witness(model)
    with _untouched(model):
        outputs = list(tensors_in(witness.run(model, args, kwargs)))
        with witness.probe:
            _backward(outputs)
    return _judge(model, plan, witness, _all_equal(outputs, expected))


@contextlib.contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        for parameter, _ in gradients:
            parameter.grad = None
        with preserved(model):
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def _backward(outputs: list[Tensor]) -> None:
    """Send a random error into every output: a loss could leave some of them out."""
    generator = torch.Generator().manual_seed(0)
    roots = [t for t in outputs if t.requires_grad]
    errors = [torch.randn(t.shape, generator=generator).to(t) for t in roots]
    if roots:
        torch.autograd.backward(roots, errors)


def _all_equal(outputs: list[Tensor], expected: list[Tensor]) -> bool:
    if len(outputs) != len(expected):
        return False
    return all(
        a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(outputs, expected, strict=True)
    )


def _judge(model: nn.Module, plan: Plan, witness: Witness, outputs_equal: bool) -> Verification:
    by_weight: dict[tuple[str, str], list[Assignment]] = defaultdict(list)
    for assignment in plan.rewritten():
        by_weight[assignment.site.weight, plan.rule_of(assignment).spec()].append(assignment)
    rows, idle = [], []
    for (_, spec), assignments in by_weight.items():
        sources = {source for a in assignments for source in a.site.sources}
        calls = [
            call
            for call in witness.probe.calls
            if call.arguments["rule"] == spec and call.sources & sources
        ]
        if calls:
            rows.append(_judge_weight(assignments[0], calls))
        else:
            idle.append(assignments[0].site.name)
    return Verification(
        model=type(model).__name__,
        rows=tuple(rows),
        outputs_equal=outputs_equal,
        silent_backprop=tuple(sorted(silent_backprop(plan, witness))),
        idle=tuple(idle),
    )


def _judge_weight(assignment: Assignment, calls: list[OpCall]) -> SiteVerdict:
    forward_equal = all(torch.equal(call.output, stock_output(call)) for call in calls)
    errors, verdicts, problem = [0.0], [], None
    for call in calls:
        if call.error is None:
            continue  # nothing was sent back to this call
        if not call.error.any():
            problem = "only zeros were sent back to it; verify with other example inputs"
            continue
        feedback = feedback_in_call(call)
        error = _largest_difference(call, oracle_gradients(call, call.error, feedback))
        differs, should = _compare_with_backprop(call, call.error, feedback)
        errors.append(error)
        verdicts.append(differs)
        if error > _TOLERANCE.get(call.output.dtype, 1e-4):
            problem = "gradients differ from the oracle's"
        elif should and differs is False:
            problem = "sends the error that backprop sends"
    known = [v for v in verdicts if v is not None]
    return SiteVerdict(
        site=assignment.site.name,
        rule=str(Plan.rule_of(assignment)),
        calls=len(calls),
        forward_equal=forward_equal,
        gradient_error=max(errors),
        differs_from_bp=any(known) if known else None,
        problem=problem if forward_equal else "the forward pass differs",
    )


def _largest_difference(call: OpCall, expected: dict[str, Tensor | None]) -> float:
    worst = 0.0
    for key, want in expected.items():
        got = call.gradients.get(key)
        if want is None or got is None:
            missing = want if got is None else got
            worst = max(worst, 0.0 if missing is None else float(missing.abs().max() > 0))
            continue
        scale = max(float(want.abs().max()), torch.finfo(want.dtype).tiny)
        worst = max(worst, float((got - want).abs().max()) / scale)
    return worst


def _compare_with_backprop(
    call: OpCall, error: Tensor, feedback: Tensor | None
) -> tuple[bool | None, bool]:
    """Whether the error sent below differs from backprop's, and whether it should."""
    sent = {k: g for k, g in call.gradients.items() if k not in (call.weight_name, "bias")}
    if not sent or feedback is None:
        return None, False
    backprop_sends = oracle_gradients(call, error, call.weight)
    differs = any(
        want is None or not torch.allclose(sent[key], want, rtol=1e-4, atol=0.0)
        for key, want in backprop_sends.items()
        if key in sent
    )
    return differs, not torch.equal(feedback, call.weight)
