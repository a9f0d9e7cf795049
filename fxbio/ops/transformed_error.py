"""The backward pass of a site whose error is transformed for one or both of its products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from torch import Tensor

from fxbio.ops.feedback_weight import parse_rule
from fxbio.transforms.base import ErrorTransform, Product, SiteValues, parse_transform
from fxbio.transforms.sparsity import TopK

__all__ = ["transformed_errors", "with_transforms"]

Gradients = tuple[Tensor | None, ...]


def with_transforms(
    backward: Callable[[Any, Tensor], Gradients],
    *,
    x_at: int = 0,
    sample_dim: int = -1,
    narrow: Callable[[Any, Tensor, Tensor], Gradients] | None = None,
) -> Callable[[Any, Tensor], Gradients]:
    """A backward pass that takes ``T(δ)`` for each product of its site, in the place of ``δ``.

    Where both products take the same error it runs once. Otherwise it runs once for what goes below
    and once for all else, each time without the product of the other.

    Args:
        backward: of an op that saves activation and weight in front of all else.
        x_at: position of the activation among the inputs of the op.
        sample_dim: as in ``SiteValues``.
        narrow: the same backward pass for an error that is zero but for some of its outputs, whose
            positions it is given, and which no feedback learns from.
    """

    def transformed(ctx: Any, error: Tensor) -> Gradients:
        specs = parse_rule(ctx.rule).error
        if not specs:
            return backward(ctx, error)
        flipped = getattr(ctx, "weight_is_left", False)
        left, right = ctx.saved_tensors[:2]
        x, weight = (right, left) if flipped else (left, right)
        last = parse_transform(specs[-1])
        if narrow and _is_unified(last) and not ctx.needs_input_grad[3] and x.dim() > 1:
            dense = transformed_errors(specs[:-1], error, x, weight, sample_dim)
            if dense[0] is dense[1]:
                rows = dense[0].reshape(-1, error.shape[-1])
                return narrow(ctx, dense[0], last.entries(rows)[0])
        below, own = transformed_errors(specs, error, x, weight, sample_dim, flipped=flipped)
        if below is own:
            return backward(ctx, own)
        at = 1 if flipped else x_at
        needs = ctx.needs_input_grad
        to_below = [need and i == at for i, need in enumerate(needs)]
        to_own = [need and i != at for i, need in enumerate(needs)]
        grads = list(backward(_Part(ctx, to_own), own))
        grads[at] = backward(_Part(ctx, to_below), below)[at] if needs[at] else None
        return tuple(grads)

    return transformed


def transformed_errors(
    specs: Sequence[str],
    error: Tensor,
    x: Tensor,
    weight: Tensor,
    sample_dim: int,
    *,
    flipped: bool = False,
) -> tuple[Tensor, Tensor]:
    """The errors that go into the product below and into the gradient of the weight.

    They are one tensor where all transforms are about both.

    Args:
        specs: of the transforms, in their order.
        error: δ, as the site's output.
        x: the activation.
        weight: the forward weight.
        sample_dim: as in ``SiteValues``.
        flipped: whether the samples are columns, as in ``W @ x``.
    """
    columns = flipped and error.dim() > 1
    if columns:
        error = error.mT
    site = SiteValues(x, weight, sample_dim if x.dim() > 1 else None)
    transforms = [parse_transform(spec) for spec in specs]
    below = _applied(transforms, error, site, "input")
    alike = all(transform.where == "both" for transform in transforms)
    own = below if alike else _applied(transforms, error, site, "weight")
    if columns:
        below, own = below.mT, own.mT
    return (below, below) if alike else (below, own)


def _is_unified(transform: ErrorTransform) -> TypeGuard[TopK]:
    return isinstance(transform, TopK) and transform.unified and transform.where == "both"


def _applied(
    transforms: Sequence[ErrorTransform], error: Tensor, site: SiteValues, product: Product
) -> Tensor:
    for transform in transforms:
        if transform.serves(product):
            error = transform.apply(error, site)
    return error


class _Part:
    """The context of a backward pass that is asked for some of its gradients only."""

    def __init__(self, ctx: Any, needs: Sequence[bool]) -> None:
        self._ctx = ctx
        self.needs_input_grad = tuple(needs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)
