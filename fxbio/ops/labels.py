"""The labels, recovered from the error of the model's own cross-entropy."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from fxbio.errors import ModelError

__all__ = ["label_dtype", "recovered_labels", "unchecked_labels"]

_TOLERANCE = 0.02
"""Below zero, for labels from errors that were rounded to bfloat16."""
_ROUNDING = 1e-3
"""Of the sum over classes of an error in single precision."""
_checks = [_TOLERANCE]
"""The tolerance in force, last; a list and no context variable, since CUDA's backward passes run
on threads of their own."""


@contextlib.contextmanager
def unchecked_labels() -> Iterator[None]:
    """Without the check that the labels are labels, for errors that come from no loss."""
    _checks.append(math.inf)
    try:
        yield
    finally:
        _checks.pop()


def label_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that labels are reckoned in: float32, or float64 where the model is."""
    return torch.promote_types(dtype, torch.float32)


@torch.library.custom_op("fxbio::recovered_labels", mutates_args=())
def recovered_labels(output: Tensor, error: Tensor, mean: bool) -> Tensor:
    """The labels that a softmax cross-entropy must have had to send this error.

    ``e = (softmax(a) − y)/N`` with the mean over the batch, so ``y = softmax(a) − N e``: exact for
    hard, smoothed and mixed labels.

    Args:
        output: logits ``a``, (N, K).
        error: ``e``, (N, K).
        mean: whether the loss is the mean over the batch, and not the sum.

    Returns:
        Distributions, (N, K), in float32, or float64 for such logits.

    Raises:
        ModelError: when they are no labels, because the loss is another one or was scaled up.
    """
    factor = error.shape[0] if mean else 1
    dtype = label_dtype(output.dtype)
    errors = factor * error.to(dtype)
    labels = output.to(dtype).softmax(-1) - errors
    tolerance = _checks[-1]
    if bool((labels < -tolerance).any()):
        raise _unrecovered(
            "some would be negative",
            f"with reduction: {'mean' if mean else 'sum'}, y = softmax(a) − "
            f"{'N e' if mean else 'e'} reaches down to {float(labels.min()):.3g}",
        )
    sums = errors.sum(-1).abs()
    rounding = _TOLERANCE if error.dtype.itemsize < 4 else _ROUNDING
    if bool((sums > tolerance * errors.abs().sum(-1) + rounding).any()):
        raise _unrecovered(
            "it does not sum to zero over the classes",
            f"softmax(a) − y does, and so does its mean; here a sum is {float(sums.max()):.3g}, as "
            "under binary cross-entropy or a squared error",
        )
    return labels


def _unrecovered(why: str, seen: str) -> ModelError:
    return ModelError(
        f"the labels cannot be recovered from the error: {why}",
        notes=[seen],
        help="drtp and dgl need F.cross_entropy on the output itself, with the reduction that "
        "their option says, unweighted, and not scaled: use bfloat16 instead of a GradScaler",
    )


@recovered_labels.register_fake
def _(output: Tensor, error: Tensor, mean: bool) -> Tensor:
    return torch.empty_like(output, dtype=label_dtype(output.dtype))
