"""The backward pass of a site whose error is transformed for one or both of its products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from torch import Tensor

from fxbio.ops.feedback_weight import parse_rule
from fxbio.transforms.base import ErrorTransform, Product, SiteValues, parse_transform
from fxbio.transforms.sparsity import TopK

__all__ = ["Move", "transformed_errors", "with_transforms"]

Gradients = tuple[Tensor | None, ...]
Move = Callable[[Tensor], Tensor]


def with_transforms(
    backward: Callable[[Any, Tensor], Gradients],
    *,
    x_at: int = 0,
    sample_dim: int = -1,
    layout: Callable[[Any, Tensor], tuple[Move, Move]] | None = None,
    narrow: Callable[[Any, Tensor, Tensor], Gradients] | None = None,
) -> Callable[[Any, Tensor], Gradients]:
    """A backward pass that takes ``T(δ)`` for each product of its site, in the place of ``δ``.

    Where both products take the same error it runs once. Otherwise it runs once for what goes below
    and once for all else, each time without the product of the other.

    Args:
        backward: of an op that saves activation and weight in front of all else.
        x_at: position of the activation among the inputs of the op.
        sample_dim: as in ``SiteValues``.
        layout: where outputs are not the last dimension of the error, what makes them so and back.
        narrow: the same backward pass for an error that is zero but for some of its outputs, whose
            positions it is given, and which no feedback learns from.
    """

    def transformed(ctx: Any, error: Tensor) -> Gradients:
        specs = parse_rule(ctx.rule).error
        if not specs:
            return backward(ctx, error)
        ctx = _Part(ctx, ctx.saved_tensors, ctx.needs_input_grad)
        to_rows, back = layout(ctx, error) if layout else (_same, _same)
        site = _site_of(ctx, sample_dim)
        last = parse_transform(specs[-1])
        if narrow and _is_unified(last) and site.sample_dim and not ctx.needs_input_grad[3]:
            dense, other = transformed_errors(specs[:-1], error, site)
            if dense is other:
                return narrow(ctx, dense, last.entries(site.rows(dense))[0])
        below, own = transformed_errors(specs, to_rows(error), site)
        if below is own:
            return backward(ctx, back(own))
        at = 1 if _weight_is_left(ctx) else x_at
        needs = ctx.needs_input_grad
        to_below = [need and i == at for i, need in enumerate(needs)]
        to_own = [need and i != at for i, need in enumerate(needs)]
        grads = list(backward(ctx.asked_for(to_own), back(own)))
        grads[at] = backward(ctx.asked_for(to_below), back(below))[at] if needs[at] else None
        return tuple(grads)

    return transformed


def _same(error: Tensor) -> Tensor:
    return error


def _weight_is_left(ctx: Any) -> bool:
    return bool(getattr(ctx, "weight_is_left", False))


def _site_of(ctx: Any, sample_dim: int) -> SiteValues:
    one, other = ctx.saved_tensors[:2]
    x, weight = (other, one) if _weight_is_left(ctx) else (one, other)
    return SiteValues(x, weight, sample_dim if x.dim() > 1 else None)


def transformed_errors(
    specs: Sequence[str], error: Tensor, site: SiteValues
) -> tuple[Tensor, Tensor]:
    """The errors that go into the product below and into the gradient of the weight.

    They are one tensor where all transforms are about both.

    Args:
        specs: of the transforms, in their order.
        error: δ, its outputs where ``site`` says.
        site: what transforms may see.
    """
    transforms = [parse_transform(spec) for spec in specs]
    below = _applied(transforms, error, site, "input")
    if all(transform.where == "both" for transform in transforms):
        return below, below
    return below, _applied(transforms, error, site, "weight")


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
    """The context of a backward pass that is asked for some of its gradients only.

    It keeps the saved tensors, which activation checkpointing hands out only once.
    """

    def __init__(self, ctx: Any, saved: tuple[Any, ...], needs: Sequence[bool]) -> None:
        self._ctx = ctx
        self.saved_tensors = saved
        self.needs_input_grad = tuple(needs)

    def asked_for(self, needs: Sequence[bool]) -> _Part:
        """The same with other gradients."""
        return _Part(self._ctx, self.saved_tensors, needs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)
