"""The custom ops behind the signatures of ``torch.nn.functional``, with the backward path appended.

Here string paddings, unbatched inputs and scalar geometry are brought into the one form that the
``fxbio::convolution`` op takes, the way ATen does it, so that outputs stay bitwise equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fxbio.errors import ModelError
from fxbio.ops import norm
from fxbio.ops.add_loss import add_loss
from fxbio.ops.broadcast import broadcast as broadcast_op
from fxbio.ops.conv_geometry import Ints, for_each_dim, with_padding
from fxbio.ops.convolution import convolution
from fxbio.ops.einsum import einsum as einsum_op
from fxbio.ops.embedding import embedding as embedding_op
from fxbio.ops.error_port import inlet, label_inlet
from fxbio.ops.feedback_weight import passes_error, trains_weight
from fxbio.ops.linear import linear as linear_op
from fxbio.ops.matmul import addmm as addmm_op
from fxbio.ops.matmul import matmul as matmul_op
from fxbio.ops.rms_norm import rms_norm as rms_norm_op
from fxbio.ops.stop_gradient import cut

__all__ = [
    "Backward",
    "add_loss",
    "addmm",
    "batch_norm",
    "broadcast",
    "conv",
    "conv_transpose",
    "einsum",
    "embedding",
    "group_norm",
    "instance_norm",
    "label_port",
    "layer_norm",
    "linear",
    "matmul",
    "port",
    "rms_norm",
    "source",
    "stop",
]


def stop(x: Tensor) -> Tensor:
    """``x``, behind which no error is sent."""
    return cut(x)


def source(x: Tensor, name: str) -> Tensor:
    """``x`` itself: where the error of a module's output is taken from, until it is sent."""
    return x


def port(receiver: Tensor, feedback: Tensor, name: str, projection: str) -> Tensor:
    """Port of the error of a source, projected by a matrix; see ``fxbio.ops.error_port``."""
    result: Tensor = inlet(receiver, feedback, name, projection)
    return result


def label_port(logits: Tensor, name: str, mean: bool) -> Tensor:
    """Port of labels into a classifier; see ``fxbio.ops.error_port``."""
    result: Tensor = label_inlet(logits, name, mean)
    return result


def broadcast(output: Tensor, ports: list[Tensor], targets: bool, mean: bool) -> Tensor:
    """``output``, whose error is sent to the ports as well; see ``fxbio.ops.broadcast``."""
    result: Tensor = broadcast_op(output, ports, targets, mean)
    return result


class Backward(NamedTuple):
    """Backward path of one weight: the inputs of a lowered operation besides its operands."""

    rule: str
    """Spec string of the rule."""
    scale: float
    """Constant factor of the feedback weight."""
    feedback: Tensor | None
    """The drawn part of the feedback weight."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, backward: Backward) -> Tensor:
    """``F.linear`` under a rule."""
    rule, scale, feedback = backward
    result: Tensor = linear_op(
        _reached(x, rule), _taught(weight, rule), bias, feedback, rule, scale
    )
    return result


def matmul(left: Tensor, right: Tensor, *, weight_is_left: bool, backward: Backward) -> Tensor:
    """``torch.matmul`` of a weight and an activation under a rule."""
    rule, scale, feedback = backward
    if weight_is_left:
        left, right = _taught(left, rule), _reached(right, rule)
    else:
        left, right = _reached(left, rule), _taught(right, rule)
    result: Tensor = matmul_op(left, right, feedback, rule, scale, weight_is_left)
    return result


def addmm(
    bias: Tensor,
    x: Tensor,
    weight: Tensor,
    *,
    beta: float = 1,
    alpha: float = 1,
    backward: Backward,
) -> Tensor:
    """``torch.addmm``, or ``torch.baddbmm`` of batches, under a rule."""
    rule, scale, feedback = backward
    factors = (float(beta), float(alpha))
    result: Tensor = addmm_op(
        bias, _reached(x, rule), _taught(weight, rule), feedback, rule, scale, *factors
    )
    return result


def einsum(
    x: Tensor, weight: Tensor, *, equation: str, weight_at: int, backward: Backward
) -> Tensor:
    """``torch.einsum`` of an activation and a weight under a rule.

    ``weight_at`` is the position of the weight in the equation.
    """
    rule, scale, feedback = backward
    x, weight = _reached(x, rule), _taught(weight, rule)
    result: Tensor = einsum_op(x, weight, feedback, rule, scale, equation, weight_at)
    return result


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    backward: Backward,
) -> Tensor:
    """``F.batch_norm`` whose scale has a rule."""
    rule, scale, feedback = backward
    x, weight = _reached(x, rule), _taught(weight, rule)
    statistics = (running_mean, running_var)
    return norm.batch_norm(
        x, *statistics, weight, bias, training, momentum, eps, feedback, rule, scale
    )


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    backward: Backward,
) -> Tensor:
    """``F.layer_norm`` whose scale has a rule."""
    rule, scale, feedback = backward
    x, weight = _reached(x, rule), _taught(weight, rule)
    return norm.layer_norm(x, list(normalized_shape), weight, bias, eps, feedback, rule, scale)


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    backward: Backward,
) -> Tensor:
    """``F.group_norm`` whose scale has a rule."""
    rule, scale, feedback = backward
    x, weight = _reached(x, rule), _taught(weight, rule)
    return norm.group_norm(x, num_groups, weight, bias, eps, feedback, rule, scale)


def rms_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor,
    eps: float | None = None,
    *,
    backward: Backward,
) -> Tensor:
    """``F.rms_norm`` whose scale has a rule."""
    rule, scale, feedback = backward
    x, weight = _reached(x, rule), _taught(weight, rule)
    result: Tensor = rms_norm_op(x, list(normalized_shape), weight, eps, feedback, rule, scale)
    return result


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    backward: Backward,
) -> Tensor:
    """``F.instance_norm`` whose scale has a rule."""
    rule, scale, feedback = backward
    x, weight = _reached(x, rule), _taught(weight, rule)
    statistics = (running_mean, running_var)
    return norm.instance_norm(
        x, *statistics, weight, bias, use_input_stats, momentum, eps, feedback, rule, scale
    )


def embedding(
    x: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
    *,
    backward: Backward,
) -> Tensor:
    """``F.embedding`` whose table has a rule; see ``fxbio.ops.embedding``."""
    rule = backward.rule
    if max_norm is not None:  # which writes into the table
        with torch.no_grad():
            torch.embedding_renorm_(weight.detach(), x.contiguous(), max_norm, norm_type)
    padded = -1 if padding_idx is None else padding_idx % weight.shape[0]
    result: Tensor = embedding_op(
        _reached(x, rule), _taught(weight, rule), padded, scale_grad_by_freq, sparse, rule
    )
    return result


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    backward: Backward,
) -> Tensor:
    """``F.conv1d``, ``F.conv2d`` or ``F.conv3d`` by the rank of the weight, under a rule."""
    spatial = weight.dim() - 2
    step, spread = for_each_dim(stride, spatial), for_each_dim(dilation, spatial)
    x, pad = with_padding(x, weight, padding, spread)
    geometry = (step, pad, spread, False, [0] * spatial, groups)
    return _batched(x, weight, bias, backward, geometry)


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    backward: Backward,
) -> Tensor:
    """``F.conv_transpose1d`` … ``3d`` by the rank of the weight, under a rule."""
    spatial = weight.dim() - 2
    geometry = (
        for_each_dim(stride, spatial),
        for_each_dim(padding, spatial),
        for_each_dim(dilation, spatial),
        True,
        for_each_dim(output_padding, spatial),
        groups,
    )
    return _batched(x, weight, bias, backward, geometry)


def _batched(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    backward: Backward,
    geometry: tuple[list[int], list[int], list[int], bool, list[int], int],
) -> Tensor:
    unbatched = x.dim() == weight.dim() - 1
    x = x.unsqueeze(0) if unbatched else x
    rule, scale, feedback = backward
    x, weight = _reached(x, rule), _taught(weight, rule)
    result: Tensor = convolution(x, weight, bias, feedback, rule, scale, *geometry)
    return result.squeeze(0) if unbatched else result


def _reached(x: Tensor, rule: str) -> Tensor:
    """The activation, cut off from what is below where the rule sends no error there.

    The ops would return no gradient, which some kernels below answer with an error when compiled.
    """
    if forward_ad._current_level >= 0:  # an op would drop the tangents without a word
        raise NotImplementedError(
            "a learning rule is about the backward pass: forward-mode derivatives of a transformed "
            "model are not defined; take them of the stock model, with fxbio.revert(model)"
        )
    if torch.onnx.is_in_onnx_export():
        raise ModelError(
            "ONNX has no backward pass, so a file of it cannot keep a learning rule",
            help="export the stock model with the trained weights: "
            "fxbio.revert(copy.deepcopy(model)).eval()",
        )
    return x if passes_error(rule) else x.detach()


def _taught(weight: Tensor, rule: str) -> Tensor:
    """The weight, without its history where the rule does not train it.

    So it gets no gradient here, whatever becomes of its ``requires_grad``.
    """
    return weight if trains_weight(rule) else weight.detach()
