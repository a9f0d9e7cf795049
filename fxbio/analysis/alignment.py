"""Measuring, on one batch, how close the rules of a model come to backprop."""

from __future__ import annotations

import time
from collections.abc import Iterable
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from fxbio.analysis.alignment_report import Alignment, AlignmentRow
from fxbio.analysis.angles import angle, cosine, norm_ratio, sign_concordance
from fxbio.analysis.paired_gradients import Gradients, backprop_pass, rule_pass
from fxbio.analysis.probe_losses import as_loss
from fxbio.graph.state_guard import outside_inference_mode
from fxbio.models.inputs import as_example_inputs
from fxbio.ops.labels import unchecked_labels
from fxbio.policy.assignment import Assignment
from fxbio.runtime.binding import resolve_attribute
from fxbio.runtime.feedback_weights import feedback_weights
from fxbio.runtime.install import bound_modules
from fxbio.runtime.module_state import binding_of
from fxbio.serialization.record import record_of
from fxbio.verification.oracle import backprop_errors
from fxbio.verification.probe import OpCall
from fxbio.wrappers import unwrapped

__all__ = ["alignment", "feedback_angle"]

_FLOOR = 1e-6
"""Of the largest gradient of a site under backprop; single precision rounds at 1e-7."""


@outside_inference_mode()
def alignment(model: nn.Module, inputs: Any = None, targets_or_loss: Any = None) -> Alignment:
    """Compare every site of a transformed model with backprop, on one batch.

    For each site: the angle between its weight W and feedback weight B, ``‖B‖/‖W‖`` and the share
    of equal signs; the angle between ``Bᵀδ`` and ``Wᵀδ`` for the same δ, which is local (the δ
    angle of Akrout et al. 2019); and the cosine between the gradients of the weight under the rules
    and under backprop in the whole model, beside the norm of the latter. Where that falls below
    1e-6 of the largest one the cosine is marked invalid: in deep nets with normalised residual
    branches backprop's own gradient may be rounding (arXiv 2606.21126).

    Backprop's gradients come from the same model with its rules switched off for one pass. Both
    passes run in training mode, with the same random numbers. The model is left as it was, with
    its gradients and modes, and so is the random state; its tensors are copied meanwhile.

    Args:
        model: a transformed model.
        inputs: as for ``capture``; by default those that the model was transformed with.
        targets_or_loss: classes, for a cross-entropy; other targets, for a mean squared error; or a
            function from the output to a scalar. By default a loss that reaches every output.

    Raises:
        ModelError: when the model is not transformed, or the loss is none.
    """
    model = unwrapped(model)
    record = record_of(model)
    began = time.perf_counter()
    given = record.inputs if inputs is None else as_example_inputs(inputs)
    loss = as_loss(targets_or_loss)
    with unchecked_labels():
        ruled, calls = rule_pass(model, given, loss)
    reference, step_seconds = backprop_pass(model, given, loss)
    shown = [a for a in record.plan.assignments if _is_shown(a)]
    norms = [_norm(reference, a.site.sources) for a in shown]
    floor = _FLOOR * max((norm for norm in norms if norm is not None), default=0.0)
    weights, feedback = _weights(model), feedback_weights(model)
    rows = tuple(
        AlignmentRow(
            site=a.site.name,
            rule=str(a.make_rule()),
            **_weight_columns(a, weights.get(a.site.weight), feedback.get(a.site.weight)),
            error_angle=_error_angle(a, calls),
            gradient_cosine=_gradient_cosine(ruled, reference, a.site.sources),
            backprop_norm=norm,
            valid=norm is not None and norm > floor,
        )
        for a, norm in zip(shown, norms, strict=True)
    )
    seconds = time.perf_counter() - began
    return Alignment(type(model).__name__, rows, seconds, step_seconds, floor)


def feedback_angle(model: nn.Module) -> float | None:
    """Degrees between W and B, the mean over the weights that have a B of their shape.

    Backprop and its equals, whose B is W, are left out. Nothing is run.

    Args:
        model: a transformed model.

    Returns:
        ``None`` where no weight has such a B.

    Raises:
        ModelError: when the model is not transformed.
    """
    plan, weights = record_of(model).plan, _weights(model)
    other = {a.site.weight for a in plan.rewritten() if a.make_rule().transports != "weights"}
    found = [
        angle(weights[name], matrix)
        for name, matrix in feedback_weights(model).items()
        if name in other & weights.keys() and weights[name].shape == matrix.shape
    ]
    valid = [value for value in found if value is not None]
    return fmean(valid) if valid else None


def _is_shown(assignment: Assignment) -> bool:
    """Norms and embeddings are left out where no policy gives them a rule."""
    return assignment.site.multiplies or assignment.make_rule().rewrites


@torch.no_grad()
def _weights(model: nn.Module) -> dict[str, Tensor]:
    """The forward weights of rewritten sites, by name."""
    return {
        bound.weight: resolve_attribute(module, bound.attribute)
        for _, module in bound_modules(model)
        for bound in binding_of(module).weights
        if not bound.computed
    }


def _weight_columns(
    assignment: Assignment, weight: Tensor | None, feedback: Tensor | None
) -> dict[str, float | None]:
    if not assignment.make_rule().rewrites:
        return dict(weight_angle=0.0, norm_ratio=1.0, sign_concordance=1.0, zeros=None)
    if weight is None or feedback is None or weight.shape != feedback.shape:
        return dict.fromkeys(("weight_angle", "norm_ratio", "sign_concordance", "zeros"))
    concordance, zeros = sign_concordance(weight, feedback)
    return dict(
        weight_angle=angle(weight, feedback),
        norm_ratio=norm_ratio(weight, feedback),
        sign_concordance=concordance,
        zeros=zeros,
    )


def _error_angle(assignment: Assignment, calls: Iterable[OpCall]) -> float | None:
    """Between what all calls of a site's weight sent below, and what backprop would have."""
    rule, sources = assignment.make_rule(), set(assignment.site.sources)
    if not rule.rewrites:
        return 0.0
    sent, wanted = [], []
    for call in calls:
        if (
            call.error is None
            or call.arguments["rule"] != rule.spec()
            or not call.sources & sources
        ):
            continue
        for key, below in backprop_errors(call, call.error).items():
            if below is not None:
                sent.append(call.gradients[key].flatten())
                wanted.append(below.flatten())
    return angle(torch.cat(sent), torch.cat(wanted)) if sent else None


def _gradient_cosine(
    ruled: Gradients, reference: Gradients, sources: tuple[str, ...]
) -> float | None:
    pairs = [(ruled[s], reference[s]) for s in sources if s in ruled and s in reference]
    if not pairs:
        return None
    one, other = (torch.cat([g.flatten() for g in part]) for part in zip(*pairs, strict=True))
    return cosine(one, other)


def _norm(gradients: Gradients, sources: tuple[str, ...]) -> float | None:
    found = [gradients[source].double().norm() for source in sources if source in gradients]
    return float(torch.stack(found).norm()) if found else None
