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
from fxbio.runtime.install import bound_modules
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
    return found | {f"route:{name}": _digest(matrix) for name, matrix in _matrices(model)}


def _matrices(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The matrices that carry errors straight to receivers, by source and receiver."""
    for _, module in bound_modules(model):
        binding = binding_of(module)
        deliveries = binding.routes.deliveries if binding.routes else {}
        for (source, unit), delivery in deliveries.items():
            matrix = getattr(module, delivery.matrix) if delivery.matrix else torch.zeros(0)
            yield f"{source} -> {unit}", matrix


def _digest(tensor: Tensor) -> str:
    values = tensor.detach().cpu().float().contiguous().numpy()
    return hashlib.sha256(values.tobytes()).hexdigest()


def irreproducible(model: nn.Module) -> dict[str, Tensor]:
    """Drawn feedback that depends on weights as they once were, and not on a seed alone."""
    found = {}
    for key, module, bound in _bound_weights(model):
        drawn = bound.drawn(module)
        if drawn is not None and _is_of_the_past(bound.rule):
            found[key] = drawn.detach().cpu().clone()
    return found


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
    for path, module in bound_modules(model):
        binding = binding_of(module)
        weights = tuple(replace(w, scale=saved_scales[_key(path, w)]) for w in binding.weights)
        state_of(module).binding = replace(binding, weights=weights)
