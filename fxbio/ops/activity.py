"""Gradients of losses on what a layer does to its input, for rules that learn feedback by them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fxbio.rules.feedback_rule import FeedbackRule

__all__ = ["activity_gradient", "patches", "tokens"]


def activity_gradient(rule: FeedbackRule, x: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
    """The gradient of ``rule.activity_loss`` by the feedback weight.

    Args:
        rule: of the layer.
        x: (groups, n, in), as ``patches`` or ``tokens`` give it.
        weight: (groups · out, …), with as many entries in each row as ``in``.
        feedback: of the same shape.

    Returns:
        The shape and dtype of ``feedback``.
    """
    shape = (x.shape[0], -1, x.shape[2])
    x, weight = x.to(feedback.dtype), weight.to(feedback.dtype)
    with torch.enable_grad():
        matrix = feedback.detach().reshape(shape).requires_grad_()
        loss = rule.activity_loss(x.detach(), weight.detach().reshape(shape), matrix)
        [gradient] = torch.autograd.grad(loss, [matrix])
    return gradient.reshape(feedback.shape)


def tokens(x: Tensor, share: float) -> Tensor:
    """The inputs of a linear layer at a share of its positions: (1, n, in) from (…, in).

    The dimension before the last is thinned out; the batch is not, so that every sample counts.
    """
    if x.dim() > 2:
        x = _thinned(x, -2, _spacing(share, 1))
    return x.reshape(1, -1, x.shape[-1])


def patches(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    share: float,
) -> Tensor:
    """The patches that a convolution sees at a share of its positions.

    Args:
        x: (N, C, …).
        kernel: of the convolution, one number for each spatial dimension, as the next three.
        stride: of the convolution.
        padding: used where the kernel is larger than the input; elsewhere the kernel stays inside.
        dilation: of the convolution.
        groups: of the convolution.
        share: of the positions.

    Returns:
        (groups, n, C / groups · taps), in the order of the entries of a weight.
    """
    spatial, spacing = len(kernel), _spacing(share, len(kernel))
    sides = [
        p if (k - 1) * d >= size else 0
        for p, k, d, size in zip(padding, kernel, dilation, x.shape[2:], strict=True)
    ]
    if any(sides):
        x = F.pad(x, [side for p in reversed(sides) for side in (p, p)])
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        x = x.unfold(axis, (k - 1) * d + 1, s)[..., ::d]
        x = _thinned(x, axis, spacing)
    x = x.unflatten(1, (groups, -1))
    positions, taps = range(3, 3 + spatial), range(3 + spatial, 3 + 2 * spatial)
    x = x.permute(1, 0, *positions, 2, *taps)
    return x.flatten(2 + spatial).flatten(1, 1 + spatial)


def _spacing(share: float, dimensions: int) -> int:
    """The distance of the positions along each dimension."""
    apart: float = share ** (-1.0 / dimensions)
    return max(1, round(apart))


def _thinned(x: Tensor, dim: int, spacing: int) -> Tensor:
    """Positions at that distance along a dimension, as far from both ends as from one another."""
    first = (x.shape[dim] - 1) % spacing // 2
    return x.narrow(dim, first, x.shape[dim] - first).unfold(dim, 1, spacing).squeeze(-1)
