"""The error of an output sent straight to receivers below it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fxbio.rules.projection import feature_error, parse_projection

__all__ = ["LABEL", "broadcast", "label_distribution"]

LABEL = "label"
"""In the place of a projection: the receiver is itself a classifier, trained on the labels."""


@torch.library.custom_op("fxbio::broadcast", mutates_args=())
def broadcast(
    output: Tensor,
    receivers: list[Tensor],
    feedback: list[Tensor],
    names: str,
    projections: str,
    targets: bool,
    mean: bool,
) -> Tensor:
    """``output`` in the forward pass; backward, its error and the projections of it.

    Args:
        output: (N, K) or (N, …, K), or (N, K, …) with two or more dimensions behind.
        receivers: tensors with a leading dimension of N.
        feedback: the matrix of each receiver, an empty tensor for ``label``.
        names: of the receivers, with semicolons between them, for those who read the graph.
        projections: spec string of each, or ``label``, with semicolons between them.
        targets: project the labels instead of the error (Frenkel et al. 2021, DRTP).
        mean: whether the loss is the mean over the batch; used with labels only.

    Returns:
        A copy of ``output``. A custom op must not return its argument.
    """
    return output.clone()


@broadcast.register_fake
def _(
    output: Tensor,
    receivers: list[Tensor],
    feedback: list[Tensor],
    names: str,
    projections: str,
    targets: bool,
    mean: bool,
) -> Tensor:
    return torch.empty_like(output)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    out, receivers, feedback, _, projections, ctx.targets, ctx.mean = inputs
    ctx.projections = projections.split(";")
    labelled = ctx.targets or LABEL in ctx.projections
    heads = [r for r, spec in zip(receivers, ctx.projections, strict=True) if spec == LABEL]
    ctx.shapes = [r.shape for r in receivers]
    ctx.dtypes = [r.dtype for r in receivers]
    ctx.labelled = labelled
    ctx.save_for_backward(*feedback, *heads, *([out] if labelled else []))


def _backward(ctx: Any, error: Tensor) -> tuple[Any, ...]:
    count = len(ctx.projections)
    feedback, rest = ctx.saved_tensors[:count], list(ctx.saved_tensors[count:])
    labels = label_distribution(rest[-1], error, ctx.mean) if ctx.labelled else None
    factor = 1.0 / error.shape[0] if ctx.mean else 1.0
    sent = labels * factor if ctx.targets and labels is not None else error
    found: list[Tensor] = []
    for spec, matrix, shape, dtype in zip(
        ctx.projections, feedback, ctx.shapes, ctx.dtypes, strict=True
    ):
        if spec == LABEL:
            at_receiver = (rest.pop(0).float().softmax(-1) - labels) * factor
        else:
            at_receiver = _project(spec, sent, matrix, shape)
        found.append(at_receiver.to(dtype))
    return error, found, [None] * count, None, None, None, None


def _project(spec: str, error: Tensor, matrix: Tensor, shape: torch.Size) -> Tensor:
    features = feature_error(error, shape)
    return parse_projection(spec).project(features, matrix.to(features.dtype), shape)


def label_distribution(output: Tensor, error: Tensor, mean: bool) -> Tensor:
    """The labels that a softmax cross-entropy must have had to send this error.

    ``e = (softmax(a) − y)/N`` with the mean over the batch, so ``y = softmax(a) − N e``: exact for
    hard, smoothed and mixed labels.

    Args:
        output: logits ``a``, (N, K).
        error: ``e``, (N, K).
        mean: whether the loss is the mean over the batch, and not the sum.
    """
    factor = error.shape[0] if mean else 1
    return output.float().softmax(-1) - factor * error.float()


broadcast.register_autograd(_backward, setup_context=_setup_context)
