"""Port through which an error that was sent straight from its source enters the layers below.

An inlet is made of what receives, when that is made, and given to the source afterwards. Autograd
goes back in the reverse order of the forward pass: it works out the error at one receiver, goes on
below it, and only then comes to the next inlet. So there is one such error at a time, and what all
the inlets wait with is the error of the source itself.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fxbio.ops.custom_op import custom_op
from fxbio.ops.labels import label_dtype
from fxbio.rules.projection import parse_projection

__all__ = ["LABEL", "inlet", "label_inlet"]

LABEL = "label"
"""In the place of a projection: the receiver is a classifier, trained on the labels."""


@custom_op("inlet")
def inlet(receiver: Tensor, feedback: Tensor, name: str, projection: str) -> Tensor:
    """A stand-in for the receiver at the source, whose error is projected to the receiver.

    Args:
        receiver: what receives, (N, …).
        feedback: the matrix B, (K, …).
        name: of the receiver, for messages.
        projection: spec string.

    Returns:
        Zeros in the shape of the error, (N, K) or (N, T…, K), that take no memory.

    Raises:
        ModelError: when B does not fit the receiver.
    """
    parsed = parse_projection(projection)
    parsed.check(name, feedback.shape, receiver.shape)
    shape = (*receiver.shape[: parsed.leading], feedback.shape[0])
    return receiver.new_zeros(()).expand(shape)


def _inlet_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    receiver, feedback, _, ctx.projection = inputs
    ctx.shape, ctx.dtype = receiver.shape, receiver.dtype
    # Not saved for backward: activation checkpointing counts what is saved in the part of a model
    # that it recomputes, and there is no source when it does, so no inlet is made.
    ctx.feedback = feedback


def _inlet_backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
    projection = parse_projection(ctx.projection)
    at_receiver = projection.project(error, ctx.feedback.to(error.dtype), ctx.shape)
    return at_receiver.to(ctx.dtype), None, None, None


inlet.register_autograd(_inlet_backward, setup_context=_inlet_setup)


@custom_op("label_inlet")
def label_inlet(logits: Tensor, name: str, mean: bool) -> Tensor:
    """A stand-in for a classifier at the source, which sends labels for it to learn.

    Args:
        logits: what the classifier says, (N, K).
        name: of the receiver that it belongs to.
        mean: whether its cross-entropy is the mean over the batch, and not the sum.

    Returns:
        Zeros of that shape in the dtype in which labels are sent, divided by N for the mean.
    """
    return logits.new_zeros((), dtype=label_dtype(logits.dtype)).expand(logits.shape)


def _label_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    logits, _, ctx.mean = inputs
    ctx.save_for_backward(logits)


def _label_backward(ctx: Any, labels: Tensor) -> tuple[Tensor | None, ...]:
    [logits] = ctx.saved_tensors
    share = 1.0 / logits.shape[0] if ctx.mean else 1.0
    error = logits.to(labels.dtype).softmax(-1) * share - labels
    return error.to(logits.dtype), None, None


label_inlet.register_autograd(_label_backward, setup_context=_label_setup)
