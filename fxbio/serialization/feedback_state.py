"""The feedback of a transformed model as data: what a saved model must find again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from fxbio.errors import RecordError
from fxbio.rules import FeedbackRule
from fxbio.runtime.binding import BoundWeight
from fxbio.runtime.feedback_weights import mark_given
from fxbio.runtime.install import bound_modules
from fxbio.runtime.loading import accept_stock_checkpoints
from fxbio.runtime.module_state import binding_of, state_of

__all__ = ["digests", "irreproducible", "restore", "scales"]


def _bound_weights(model: nn.Module) -> Iterator[tuple[str, nn.Module, BoundWeight]]:
    """Every bound weight under a key of its own: module path and weight."""
    for path, module in bound_modules(model):
        for bound in binding_of(module).weights:
            yield _key(path, bound), module, bound


def _key(path: str, bound: BoundWeight) -> str:
    return f"{path}:{bound.weight}:{'x'.join(map(str, bound.shape))}"


def scales(model: nn.Module) -> dict[str, float]:
    """Constant factor of each feedback weight."""
    return {key: bound.scale for key, _, bound in _bound_weights(model)}


def digests(model: nn.Module) -> dict[str, str]:
    """SHA-256 of each drawn feedback tensor."""
    found = {}
    for key, module, bound in _bound_weights(model):
        drawn = bound.drawn(module)
        if drawn is not None and not bound.rule.remembers:
            found[key] = _digest(drawn)
    for key, module, name in _matrices(model):
        found[key] = _digest(getattr(module, name) if name else torch.zeros(0))
    return found


def _matrices(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """The attributes that carry errors straight to receivers, under a key of their own."""
    for _, module in bound_modules(model):
        binding = binding_of(module)
        deliveries = binding.routes.deliveries if binding.routes else {}
        for (source, unit), delivery in deliveries.items():
            yield f"route:{source} -> {unit}", module, delivery.matrix


def _digest(tensor: Tensor) -> str:
    values = tensor.detach().cpu().float().contiguous().numpy()
    return hashlib.sha256(values.tobytes()).hexdigest()


def irreproducible(model: nn.Module) -> dict[str, Tensor]:
    """Feedback that a seed alone does not make: of weights of the past, or set from outside."""
    found = {}
    for key, module, bound in _bound_weights(model):
        drawn = bound.drawn(module)
        if drawn is not None and (_is_of_the_past(bound.rule) or _is_given(module, bound.feedback)):
            found[key] = drawn.detach().cpu().clone()
    for key, module, name in _matrices(model):
        if _is_given(module, name):
            found[key] = getattr(module, name).detach().cpu().clone()
    return found


def _is_given(module: nn.Module, attribute: str | None) -> bool:
    return attribute in state_of(module).given


def _is_of_the_past(rule: FeedbackRule) -> bool:
    """True if what it drew cannot be drawn again, and is not among the weights either."""
    return rule.reads_weight() and not rule.remembers


@torch.no_grad()
def restore(model: nn.Module, saved_scales: dict[str, float], saved: dict[str, Tensor]) -> None:
    """Put saved scales and saved feedback in the place of those that were made anew.

    Raises:
        RecordError: when the saved state is of other weights.
    """
    known = scales(model)
    if set(known) != set(saved_scales):
        odd = sorted(set(known) ^ set(saved_scales))
        raise RecordError("the record is of another model", notes=[f"for instance: {odd[0]}"])
    for key, module, bound in _bound_weights(model):
        if key in saved:
            bound.drawn(module).copy_(saved[key])  # type: ignore[union-attr]
            if bound.feedback and not _is_of_the_past(bound.rule):
                mark_given(module, bound.feedback)
    for key, module, name in _matrices(model):
        if key in saved:
            getattr(module, name).copy_(saved[key])
            mark_given(module, name)
    accept_stock_checkpoints(model)
    for path, module in bound_modules(model):
        binding = binding_of(module)
        weights = tuple(replace(w, scale=saved_scales[_key(path, w)]) for w in binding.weights)
        state_of(module).binding = replace(binding, weights=weights)
