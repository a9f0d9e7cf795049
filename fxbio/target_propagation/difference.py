"""The error that a block sends below under target propagation: a difference of two inverses.

With δ the error of one sample at the output h = f(x) of a block and g its learned inverse, the
target of h is ``ĥ = h − δ``, and the block below is sent (Lee et al. 2015, eq. 15)::

    x − x̂ = g(h) − g(h − δ)          difference target propagation
    x − x̂ = x − g(h − δ)             target propagation (Bengio 2014)

The block's own weights learn from δ itself, the gradient of ``½‖f(x) − ĥ‖²``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, fx

from fxbio.errors import UnreachableWeightError

__all__ = ["Reduction", "difference", "refuse_tracing", "relay", "samples_of", "scale_error"]

Reduction = Literal["mean", "sum"]
"""How the user's loss combines the samples of a batch."""

Inverse = Callable[[Tensor], Tensor]


def difference(
    h: Tensor,
    x: Tensor,
    inverse: Inverse,
    *,
    samples: int = 1,
    softmax: bool = False,
    auxiliary: Tensor | None = None,
    corrected: bool = True,
) -> Tensor:
    """``h`` itself, whose error reaches ``x`` as the difference of two targets.

    The inverse is evaluated in the backward pass, without gradients, and in the dtype of its
    parameters: in half precision the difference of two close values would be rounded away. ``h``
    must have been computed from ``x.detach()``, or ``x`` gets the error of backprop as well.

    Args:
        h: (N, …), the output of the block; its error passes unchanged.
        x: (N, …), the input of the block, where the error of the block below comes from.
        inverse: g, from what stands for ``h`` to the shape of ``x``.
        samples: by how much the error is to be multiplied to be that of one sample, see
            ``samples_of``.
        softmax: whether ``softmax(h)`` stands for ``h``, as at logits under a cross-entropy. The
            target ``p − δ`` is then the distribution of the label itself (Bartunov et al. 2018).
        auxiliary: (N, units), features z of ``x`` that g is given besides ``h``: the difference is
            ``g(h, z) − g(ĥ, z)``.
        corrected: whether the difference is to ``g(h)`` rather than to ``x``.

    Returns:
        A view of ``h``.

    Raises:
        UnreachableWeightError: under ``torch.export`` and ``torch.fx``, where it would get lost.
    """
    refuse_tracing(h, x)
    if not (torch.is_grad_enabled() and x.requires_grad):
        return h
    result: Tensor = _Difference.apply(h, x, auxiliary, inverse, samples, softmax, corrected)
    return result


def scale_error(h: Tensor, factor: float) -> Tensor:
    """``h`` itself, with its error multiplied: where an error enters as ``α ∂L/∂h``.

    Raises:
        UnreachableWeightError: under ``torch.export`` and ``torch.fx``, where it would get lost.
    """
    refuse_tracing(h)
    result: Tensor = _ScaledError.apply(h, factor)
    return result


def relay(h: Tensor, x: Tensor) -> Tensor:
    """``h`` cut off from all that computed it, while ``x`` gets an error of zero.

    So nothing in the block learns, but losses that were added below it are still reached.

    Raises:
        UnreachableWeightError: under ``torch.export`` and ``torch.fx``, where it would get lost.
    """
    refuse_tracing(h, x)
    result: Tensor = _Relay.apply(h.detach(), x)
    return result


def samples_of(h: Tensor, reduction: Reduction) -> int:
    """Factor from the error of a batch to that of one sample: its size, if the loss is a mean.

    The difference is not linear in the error, so without it targets would depend on the size of
    the batch. Under DDP the loss is the mean over the batch of one rank, which is what counts.
    """
    return h.shape[0] if reduction == "mean" else 1


def refuse_tracing(*values: Any) -> None:
    """Stop where a graph is made that would run backprop in place of what an error meets here.

    Raises:
        UnreachableWeightError: with a way out.
    """
    if any(isinstance(value, fx.Proxy) for value in values):
        _refuse("torch.fx")
    if torch.compiler.is_exporting():
        _refuse("torch.export")


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # really raised, not traced
def _refuse(tool: str) -> None:
    raise UnreachableWeightError(
        f"{tool} cannot keep target propagation: its errors are computed by learned inverses",
        notes=["the graph would train by backprop"],
        help="use torch.compile, which keeps it, or trace the stock model: fxbio.revert(model)",
    )


class _Difference(torch.autograd.Function):
    @staticmethod
    def forward(h: Tensor, x: Tensor, *_: Any) -> Tensor:
        return h.view_as(h)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        h, x, auxiliary, ctx.inverse, ctx.samples, ctx.softmax, ctx.corrected = inputs
        ctx.dtype = x.dtype
        ctx.save_for_backward(h, auxiliary, None if ctx.corrected else x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        h, auxiliary, x = ctx.saved_tensors
        dtype = dtype_of(ctx.inverse, h)
        with torch.autocast(h.device.type, enabled=False):
            h = h.to(dtype).softmax(-1) if ctx.softmax else h.to(dtype)
            target = h - error.to(dtype) * ctx.samples
            here = ctx.inverse(_joined(h, auxiliary)) if ctx.corrected else x
            below = here - ctx.inverse(_joined(target, auxiliary))
        return error, (below / ctx.samples).to(ctx.dtype), None, None, None, None, None


class _Relay(torch.autograd.Function):
    @staticmethod
    def forward(h: Tensor, x: Tensor) -> Tensor:
        return h.view_as(h)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.shape = inputs[1].shape
        ctx.dtype = inputs[1].dtype

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        return None, error.new_zeros(ctx.shape, dtype=ctx.dtype)


class _ScaledError(torch.autograd.Function):
    @staticmethod
    def forward(h: Tensor, factor: float) -> Tensor:
        return h.view_as(h)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> tuple[Tensor | None, ...]:
        return error * ctx.factor, None


def dtype_of(inverse: Any, default: Tensor) -> torch.dtype:
    """The dtype that an inverse computes in: that of its parameters, if it has any."""
    parameters = inverse.parameters() if isinstance(inverse, torch.nn.Module) else ()
    return next((parameter.dtype for parameter in parameters), default.dtype)


def _joined(h: Tensor, auxiliary: Tensor | None) -> Tensor:
    return h if auxiliary is None else torch.cat([h, auxiliary.to(h.dtype)], -1)
