"""Oracle of what a receiver is sent, written out with plain torch functions.

The geometry is read from the spec of the projection; nothing of its arithmetic takes part.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fxbio.ops.error_port import LABEL
from fxbio.rules.projection import Channel, Conv, Dense, Shared, parse_projection
from fxbio.verification.probe import Arrival, Delivered

__all__ = ["expected_at"]

_LARGEST = 2**24
"""Entries of a repeated error; what is more is compared for fewer samples."""
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def expected_at(call: Delivered, arrival: Arrival) -> Tensor:
    """The error that a receiver should get; of the first samples, if it is large.

    Args:
        call: with the error of the output.
        arrival: one of its arrivals.
    """
    assert call.error is not None
    spec, dtype = arrival.projection, torch.promote_types(call.output.dtype, torch.float32)
    error = call.error.to(dtype)
    count = len(error) if call.mean else 1
    if call.targets:
        labels = torch.softmax(call.output.to(dtype), -1) - count * error
        if spec == LABEL:
            reduction = "mean" if call.mean else "sum"
            return _cross_entropy_gradient(arrival.receiver, labels, reduction)
        error = labels / count
    assert arrival.feedback is not None
    return _projected(spec, error, arrival.feedback.to(dtype), arrival.receiver.shape)


def _cross_entropy_gradient(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
    leaf = logits.detach().to(labels.dtype).requires_grad_()
    with torch.enable_grad():
        per_sample = -(labels * leaf.log_softmax(-1)).sum(-1)
        loss = per_sample.mean() if reduction == "mean" else per_sample.sum()
    # Labels that do not add up to one, as those from a random error, shift the softmax's term.
    shift = (1 - labels.sum(-1, keepdim=True)) * leaf.detach().softmax(-1)
    factor = 1 / len(logits) if reduction == "mean" else 1.0
    return torch.autograd.grad(loss, leaf)[0] + shift * factor


def _projected(spec: str, error: Tensor, matrix: Tensor, shape: torch.Size) -> Tensor:
    projection = parse_projection(spec)
    vectors = error.movedim(1, -1) if error.dim() > 3 else error
    if projection.leading == 1:
        vectors = vectors.reshape(len(error), -1, vectors.shape[-1]).sum(1)
    match projection:
        case Dense():
            return torch.einsum("...k,kf->...f", vectors, matrix).reshape(shape)
        case Shared(leading=leading, scale=scale):
            own = matrix[:, : math.prod(shape[leading:])] * scale
            return torch.einsum("...k,kf->...f", vectors, own).reshape(shape)
        case Channel(leading=leading, dim=dim):
            return _spread(torch.einsum("...k,kc->...c", vectors, matrix), shape, leading, dim)
        case Conv():
            return _tiled(vectors, matrix, shape, projection)
    raise AssertionError(f"no oracle for {spec}")


def _spread(by_channel: Tensor, shape: torch.Size, leading: int, dim: int) -> Tensor:
    """One value for each channel, shared out evenly among its positions."""
    result = by_channel.new_zeros(shape)
    rows = result.movedim(dim, leading).reshape(*by_channel.shape, -1)
    rows = rows + by_channel.unsqueeze(-1) / rows.shape[-1]
    moved = result.movedim(dim, leading).shape
    return rows.reshape(moved).movedim(leading, dim)


def _tiled(vectors: Tensor, matrix: Tensor, shape: torch.Size, conv: Conv) -> Tensor:
    """The error repeated at every output position of the layer, through its transpose."""
    kernel, spatial = matrix.shape[2:], len(shape) - 2
    outputs = [
        len(range(0, size + b + a - dilation * (k - 1), stride))
        for size, b, a, dilation, k, stride in zip(
            shape[2:], conv.before, conv.after, conv.dilation, kernel, conv.stride, strict=True
        )
    ]
    fitting = max(1, _LARGEST // (vectors.shape[1] * math.prod(outputs)))
    some = vectors[:fitting]
    tiled = some.reshape(*some.shape, *[1] * spatial).expand(*some.shape, *outputs)
    whole = _TRANSPOSED[spatial - 1](tiled, matrix, stride=conv.stride, dilation=conv.dilation)
    for d, size in enumerate(shape[2:], start=2):
        missing = conv.before[d - 2] + size - whole.shape[d]
        if missing > 0:  # no output reads the last inputs
            extra = list(whole.shape)
            extra[d] = missing
            whole = torch.cat([whole, whole.new_zeros(extra)], d)
        whole = whole.narrow(d, conv.before[d - 2], size)
    return whole
