"""The error of an output sent straight to receivers below it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fxbio.ops.define import custom_op
from fxbio.ops.labels import recovered_labels
from fxbio.rules.projection import feature_error, parse_projection

__all__ = ["LABEL", "broadcast"]

LABEL = "label"
"""In the place of a projection: the receiver is itself a classifier, trained on the labels."""


@custom_op("broadcast")
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
        names: of the receivers, with semicolons between them.
        projections: spec string of each, or ``label``, with semicolons between them.
        targets: project the labels instead of the error (Frenkel et al. 2021, DRTP).
        mean: whether the loss is the mean over the batch; used with labels only.

    Returns:
        A copy of ``output``. A custom op must not return its argument.

    Raises:
        ModelError: when a matrix does not fit its receiver.
    """
    _check(receivers, feedback, names, projections)
    return output.clone()


def _check(receivers: list[Tensor], feedback: list[Tensor], names: str, projections: str) -> None:
    parts = zip(names.split(";"), projections.split(";"), receivers, feedback, strict=True)
    for name, spec, receiver, matrix in parts:
        if spec != LABEL:
            parse_projection(spec).check(name, matrix.shape, receiver.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    out, receivers, feedback, _, projections, ctx.targets, ctx.mean = inputs
    ctx.projections = projections.split(";")
    ctx.labelled = ctx.targets or LABEL in ctx.projections
    heads = [r for r, spec in zip(receivers, ctx.projections, strict=True) if spec == LABEL]
    ctx.shapes = [r.shape for r in receivers]
    ctx.dtypes = [r.dtype for r in receivers]
    ctx.save_for_backward(*feedback, *heads, *([out] if ctx.labelled else []))


def _backward(ctx: Any, error: Tensor) -> tuple[Any, ...]:
    count = len(ctx.projections)
    saved = ctx.saved_tensors  # once: activation checkpointing hands them out a single time
    feedback, rest = saved[:count], list(saved[count:])
    labels = recovered_labels(rest[-1], error, ctx.mean) if ctx.labelled else error
    factor = 1.0 / error.shape[0] if ctx.mean else 1.0
    sent = labels * factor if ctx.targets else error
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
    projection = parse_projection(spec)
    features = feature_error(error, projection.leading)
    return projection.project(features, matrix.to(features.dtype), shape)


broadcast.register_autograd(_backward, setup_context=_setup_context)
