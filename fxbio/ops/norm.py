"""Normalisation layers whose error goes back through a feedback vector in place of the scale γ.

The backward kernels of torch read γ for the gradient of the input only, so ``scale · B`` takes its
place there and all three gradients still come from one call. The ops return the statistics of
the forward pass as well, so that the backward pass computes nothing twice.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

from fxbio.ops.autocast import register_autocast
from fxbio.ops.custom_op import custom_op
from fxbio.ops.norm_backward import keep, scale_vector, wanted_gradients, wanted_of

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm"]


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    feedback: Tensor | None,
    rule: str,
    scale: float,
) -> Tensor:
    """A batch normalisation with ``scale · B`` in place of γ in the backward pass.

    In training it updates the running statistics in place, as ``F.batch_norm`` does.

    Args:
        x: (N, C, …).
        running_mean: (C,), or ``None`` where the batch's own is always used.
        running_var: the same.
        weight: the scale γ, (C,).
        bias: (C,) or ``None``.
        training: whether to normalise by the statistics of the batch.
        momentum: as in ``F.batch_norm``.
        eps: as in ``F.batch_norm``.
        feedback: the drawn part of B, (C,), or ``None``.
        rule: spec string of the rule.
        scale: constant factor of B.

    Returns:
        The shape of ``x``, bitwise what ``F.batch_norm`` gives.
    """
    results = torch.ops.fxbio.batch_norm.default(
        x, running_mean, running_var, weight, bias, training, momentum, eps, feedback, rule, scale
    )
    if training:
        # torch lets an op have either a gradient or side effects, so the update stays outside;
        # and fx takes a method call whose result is unused for dead code, but not this op.
        for statistic, position in ((running_mean, 3), (running_var, 4)):
            if statistic is not None:
                torch.ops.aten.copy_.default(statistic, results[position])
    y: Tensor = results[0]
    return y


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    feedback: Tensor | None,
    rule: str,
    scale: float,
) -> Tensor:
    """An instance normalisation with ``scale · B`` in place of γ in the backward pass.

    As in ATen it is a batch normalisation of one sample with (batch · channels) channels, whose
    running statistics are the mean of those of the samples. Arguments as for ``batch_norm``;
    ``use_input_stats`` is its ``training``.
    """
    batch, channels = x.shape[0], x.shape[1]
    mean, var, gamma, beta, drawn = (
        None if t is None else t.repeat(batch)
        for t in (running_mean, running_var, weight, bias, feedback)
    )
    assert gamma is not None
    flat = x.contiguous().view(1, batch * channels, *x.shape[2:])
    y = batch_norm(flat, mean, var, gamma, beta, use_input_stats, momentum, eps, drawn, rule, scale)
    for statistic, repeated in ((running_mean, mean), (running_var, var)):
        if use_input_stats and statistic is not None and repeated is not None:
            torch.ops.aten.copy_.default(statistic, repeated.view(batch, channels).mean(0))
    return y.view(x.shape)


@custom_op("batch_norm")
def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    feedback: Tensor | None,
    rule: str,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The op: ``F.batch_norm`` on copies of the running statistics.

    Returns:
        The result; mean and inverse deviation of the batch, empty in evaluation; the running
        statistics that should follow, empty where there are none.
    """
    if training and math.prod(x.shape) == x.shape[1]:
        raise ValueError(f"training needs more than one value per channel, not {tuple(x.shape)}")
    mean, var = [None if s is None else s.clone() for s in (running_mean, running_var)]
    cudnn = torch.backends.cudnn.enabled
    # F.batch_norm is this call and drops all results but the first.
    y, batch_mean, invstd, *_ = torch._batch_norm_impl_index(
        x, weight, bias, mean, var, training, momentum, eps, cudnn
    )
    updated = [weight.new_empty(0) if s is None else s for s in (mean, var)]
    return y, batch_mean, invstd, updated[0], updated[1]


def _batch_norm_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, _, _, weight, bias, ctx.training, _, ctx.eps, feedback, ctx.rule, ctx.scale = inputs
    keep(ctx, x, weight, bias, feedback, output[1:])


def _batch_norm_backward(ctx: Any, error: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    x, weight, _, drawn, batch_mean, invstd, mean, var = ctx.saved_tensors
    mask = wanted_gradients(ctx, 0, 3, 4, 8)
    # In evaluation the statistics are the copies: the buffers may have moved on since.
    statistics = (None, None, batch_mean, invstd) if ctx.training else (mean, var, None, None)
    grads = torch.ops.aten.native_batch_norm_backward(
        error, x, scale_vector(ctx, weight, drawn), *statistics, ctx.training, ctx.eps, mask
    )
    grad_x, grad_weight, grad_bias, grad_feedback = wanted_of(ctx, mask, grads, drawn, 3, 8)
    return grad_x, None, None, grad_weight, grad_bias, *[None] * 3, grad_feedback, None, None


def layer_norm(
    x: Tensor,
    normalized_shape: list[int],
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    feedback: Tensor | None,
    rule: str,
    scale: float,
) -> Tensor:
    """A layer normalisation with ``scale · B`` in place of γ in the backward pass.

    Args:
        x: (…, *normalized_shape).
        normalized_shape: the trailing dimensions that are normalised together.
        weight: the scale γ, of shape ``normalized_shape``.
        bias: of the same shape, or ``None``.
        eps: as in ``F.layer_norm``.
        feedback: the drawn part of B in the shape of ``weight``, or ``None``.
        rule: spec string of the rule.
        scale: constant factor of B.

    Returns:
        The shape of ``x``, bitwise what ``F.layer_norm`` gives.
    """
    y: Tensor = torch.ops.fxbio.layer_norm.default(
        x, normalized_shape, weight, bias, eps, feedback, rule, scale
    )[0]
    return y


@custom_op("layer_norm")
def _layer_norm(
    x: Tensor,
    normalized_shape: list[int],
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    feedback: Tensor | None,
    rule: str,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The op: ``F.layer_norm`` with its other results, the means and inverse deviations."""
    return torch.native_layer_norm(x, normalized_shape, weight, bias, eps)


def _layer_norm_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, ctx.normalized_shape, weight, bias, _, feedback, ctx.rule, ctx.scale = inputs
    keep(ctx, x, weight, bias, feedback, output[1:])


def _layer_norm_backward(ctx: Any, error: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    x, weight, bias, drawn, mean, rstd = ctx.saved_tensors
    mask = wanted_gradients(ctx, 0, 2, 3, 5)
    matrix = scale_vector(ctx, weight, drawn)
    grads = torch.ops.aten.native_layer_norm_backward(
        error, x, ctx.normalized_shape, mean, rstd, matrix, bias, mask
    )
    grad_x, grad_weight, grad_bias, grad_feedback = wanted_of(ctx, mask, grads, drawn, 2, 5)
    return grad_x, None, grad_weight, grad_bias, None, grad_feedback, None, None


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    feedback: Tensor | None,
    rule: str,
    scale: float,
) -> Tensor:
    """A group normalisation with ``scale · B`` in place of γ in the backward pass.

    Args:
        x: (N, C, …).
        num_groups: number of groups of channels.
        weight: the scale γ, (C,).
        bias: (C,) or ``None``.
        eps: as in ``F.group_norm``.
        feedback: the drawn part of B, (C,), or ``None``.
        rule: spec string of the rule.
        scale: constant factor of B.

    Returns:
        The shape of ``x``, bitwise what ``F.group_norm`` gives.
    """
    y: Tensor = torch.ops.fxbio.group_norm.default(
        x, num_groups, weight, bias, eps, feedback, rule, scale
    )[0]
    return y


@custom_op("group_norm")
def _group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    feedback: Tensor | None,
    rule: str,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The op: ``F.group_norm`` with its other results, the means and inverse deviations."""
    if math.prod(x.shape) == num_groups:
        raise ValueError(f"a group needs more than one value, not {tuple(x.shape)}")
    x = x.contiguous(memory_format=suggest_memory_format(x))
    weight, bias = weight.contiguous(), None if bias is None else bias.contiguous()
    return torch.native_group_norm(x, weight, bias, *_sizes(x), num_groups, eps)


def _group_norm_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, ctx.num_groups, weight, bias, _, feedback, ctx.rule, ctx.scale = inputs
    keep(ctx, x, weight, bias, feedback, output[1:])


def _group_norm_backward(ctx: Any, error: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    x, weight, _, drawn, mean, rstd = ctx.saved_tensors
    mask = wanted_gradients(ctx, 0, 2, 3, 5)
    # Only the CPU kernel knows channels_last; this is how autograd calls it, too.
    layout = suggest_memory_format(x) if x.device.type == "cpu" else torch.contiguous_format
    error, x = error.contiguous(memory_format=layout), x.contiguous(memory_format=layout)
    grads = torch.ops.aten.native_group_norm_backward(
        error, x, mean, rstd, scale_vector(ctx, weight, drawn), *_sizes(x), ctx.num_groups, mask
    )
    grad_x, grad_weight, grad_bias, grad_feedback = wanted_of(ctx, mask, grads, drawn, 2, 5)
    return grad_x, None, grad_weight, grad_bias, None, grad_feedback, None, None


def _sizes(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


_batch_norm.register_autograd(_batch_norm_backward, setup_context=_batch_norm_setup)
_layer_norm.register_autograd(_layer_norm_backward, setup_context=_layer_norm_setup)
_group_norm.register_autograd(_group_norm_backward, setup_context=_group_norm_setup)

# As in torch: on accelerators these two run in float32, on the CPU in the dtype of the input. A
# batch norm has no autocast rule anywhere.
for _name in ("layer_norm", "group_norm"):
    register_autocast(_name, operands=4, dtype=torch.float32, devices=("cuda", "xpu"))
