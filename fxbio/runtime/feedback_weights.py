"""Reading and setting the matrices that carry errors back in a transformed model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fxbio.errors import ModelError, did_you_mean
from fxbio.ops.feedback_weight import feedback_of
from fxbio.rules.feedback_rule import FeedbackRule
from fxbio.runtime.binding import BoundWeight, resolve_attribute
from fxbio.runtime.install import bound_modules
from fxbio.runtime.loading import accept_stock_checkpoints
from fxbio.runtime.module_state import binding_of, state_of
from fxbio.runtime.sharding import fill, gathered

__all__ = ["broadcast_weights", "feedback_weights", "mark_given", "set_feedback_weights"]

_MOST_NAMES = 8
"""Names that an error lists."""


@torch.no_grad()
def feedback_weights(model: nn.Module) -> dict[str, Tensor]:
    """The feedback weight ``B`` of every rewritten weight, by the name of the weight.

    Each has the shape of its weight and is a copy: writing into it changes nothing in the model,
    ``set_feedback_weights`` does. Rules that send no error are left out, and so are weights that
    exist only while a forward runs (``W + B A``), unless their feedback does not depend on them.
    ``broadcast_weights`` has the matrices of ``dfa`` and ``drtp``.
    """
    found: dict[str, Tensor] = {}
    for _, module in bound_modules(model):
        for bound in binding_of(module).weights:
            matrix = _feedback_weight(module, bound)
            if matrix is not None:
                found[bound.weight] = matrix
    return found


def _feedback_weight(module: nn.Module, bound: BoundWeight) -> Tensor | None:
    if not bound.rule.passes_error or bound.info.op == "embedding":
        return None
    weight = gathered(resolve_attribute(module, bound.attribute))
    drawn = bound.path(module)
    if not bound.computed and weight.shape == torch.Size(bound.shape):
        return feedback_of(weight, drawn, bound.spec, weight) * bound.scale
    probes = [weight.new_full(bound.shape, value) for value in (1.0, -2.0)]
    one, other = (feedback_of(probe, drawn, bound.spec, probe) for probe in probes)
    return one * bound.scale if torch.equal(one, other) else None


@torch.no_grad()
def broadcast_weights(model: nn.Module) -> dict[str, Tensor]:
    """The matrix ``B`` that carries an error straight to each receiver, by the receiver's name.

    For the K classes of the error: (K, F) for a receiver of F entries, (K, C) with ``projection:
    channel``, (K, C, k…) with ``conv``, and with ``shared`` the one matrix of all receivers. Each
    is a copy: writing into it changes nothing in the model, ``set_feedback_weights`` does.

    A receiver is the layer or block of which ``dfa`` or ``drtp`` sets the error. If it hears of
    several sources, there is an entry ``RECEIVER <- SOURCE`` for each.
    """
    return {name: gathered(at.stored).clone() for name, at in _routed_matrices(model)}


@dataclass(frozen=True)
class _Place:
    """Storage of a matrix: a buffer or parameter of a module."""

    module: nn.Module
    attribute: str
    shape: tuple[int, ...]
    scale: float = 1.0
    """What the backward pass multiplies it by."""

    @property
    def stored(self) -> Tensor:
        """The tensor itself."""
        tensor: Tensor = getattr(self.module, self.attribute).detach()
        return tensor


def _routed_matrices(model: nn.Module) -> Iterator[tuple[str, _Place]]:
    """Places of the matrices that carry errors straight to receivers, by name."""
    for _, module in bound_modules(model):
        routes = binding_of(module).routes
        deliveries = routes.deliveries if routes else {}
        receivers = [receiver for _, receiver in deliveries]
        for (source, receiver), delivery in deliveries.items():
            if not delivery.matrix:  # a classifier of its own, not a matrix
                continue
            shape = tuple(getattr(module, delivery.matrix).shape)
            name = receiver if receivers.count(receiver) == 1 else f"{receiver} <- {source}"
            yield name, _Place(module, delivery.matrix, shape)


@torch.no_grad()
def set_feedback_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set feedback weights and broadcast matrices, for instance to those of another simulator.

    All are checked before the first is written. The rule goes on from there: fixed feedback stays
    as it was set, learned feedback learns on. What was set is no longer a function of the seed, so
    it goes into the ``state_dict`` and into the folder of ``fxbio.save``. On several ranks, set
    the same on each.

    Args:
        model: a transformed model, or one wrapped in DDP.
        weights: by the names that ``feedback_weights`` and ``broadcast_weights`` give, of the
            shapes found there; any floating dtype and device. Weights and receivers that share a
            matrix are set together.

    Raises:
        ModelError: for an unknown name, another shape, values that are not finite, two values
            for one matrix, or feedback that its rule derives from the forward weight (``usf``,
            ``frsf``, ``fbp``, …) or from two matrices (``pfa``).
    """
    places: dict[str, list[_Place]] = {}
    refused: dict[str, str] = {}
    for name, place in _routed_matrices(model):
        places.setdefault(name, []).append(place)
    for module, bound in _bound(model):
        reason = _not_settable(bound)
        if reason:
            refused[bound.weight] = reason
        else:
            places.setdefault(bound.weight, []).append(_place(module, bound))
    _check_names(model, weights, places, refused)
    chosen = {name: places[name] for name in weights}
    for name, found in chosen.items():
        _check_value(name, weights[name], found)
    _check_agreement(weights, chosen)
    for name, found in chosen.items():
        for place in found:
            _write(place, weights[name])
    accept_stock_checkpoints(model)


def _bound(model: nn.Module) -> Iterator[tuple[nn.Module, BoundWeight]]:
    for _, module in bound_modules(model):
        yield from ((module, bound) for bound in binding_of(module).weights)


def _place(module: nn.Module, bound: BoundWeight) -> _Place:
    attribute = bound.learned or bound.feedback
    assert attribute is not None
    return _Place(module, attribute, bound.shape, bound.scale)


def _not_settable(bound: BoundWeight) -> str | None:
    """The reason why what is stored is not the feedback weight itself, if it is not."""
    rule, cls = bound.rule, type(bound.rule)
    if not rule.passes_error or bound.info.op == "embedding":
        return f"rule '{rule.name}' sends no error through it"
    if cls.path is not FeedbackRule.path:
        return f"rule '{rule.name}' makes it of two matrices"
    derived = cls.feedback is not FeedbackRule.feedback or not bound.stored
    if derived or (rule.draws and rule.transports == "copies"):
        return f"rule '{rule.name}' derives it from the forward weight"
    return None


def _check_names(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    places: Mapping[str, list[_Place]],
    refused: Mapping[str, str],
) -> None:
    for name in weights:
        if name in refused:
            raise ModelError(
                f"the feedback of '{name}' cannot be set: {refused[name]}",
                notes=[_listed(places)],
                help="give it a rule whose feedback is drawn or learned as a whole, such as fa",
            )
        if name not in places:
            raise ModelError(
                f"'{name}' is no feedback of this {type(model).__name__}",
                notes=[_listed(places)],
                help=did_you_mean(name, places)
                or "take the names of fxbio.feedback_weights(model) and "
                "fxbio.broadcast_weights(model)",
            )


def _listed(places: Mapping[str, list[_Place]]) -> str:
    if not places:
        return "it has none that can be set"
    names = ", ".join(f"'{name}'" for name in [*places][:_MOST_NAMES])
    more = len(places) - _MOST_NAMES
    return f"can be set: {names}" + (f" and {more} more" if more > 0 else "")


def _check_value(name: str, value: object, places: list[_Place]) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise ModelError(
            f"the feedback of '{name}' is a floating-point tensor, not {kind}",
            help="pass torch.as_tensor(value, dtype=torch.float32)",
        )
    for place in places:
        if value.shape != torch.Size(place.shape):
            turned = value.dim() == 2 and tuple(value.shape[::-1]) == place.shape
            raise ModelError(
                f"the feedback of '{name}' has the shape {place.shape}, not {tuple(value.shape)}",
                help="it is the transpose: pass value.T" if turned else None,
            )
    if not value.isfinite().all():
        raise ModelError(f"the feedback given for '{name}' has entries that are not finite")


def _check_agreement(weights: Mapping[str, Tensor], chosen: Mapping[str, list[_Place]]) -> None:
    """Check that no two names are given different values of one matrix that they share."""
    first: dict[tuple[int, str], str] = {}
    for name, places in chosen.items():
        for place in places:
            other = first.setdefault((id(place.module), place.attribute), name)
            if not torch.equal(weights[other].cpu(), weights[name].cpu()):
                raise ModelError(
                    f"'{other}' and '{name}' share one matrix, and were given different ones",
                    help="give one of them",
                )


def _write(place: _Place, value: Tensor) -> None:
    """Store a matrix, from now on as a part of the ``state_dict``."""
    whole = value.detach().to(place.stored.device, place.stored.dtype)
    fill(place.stored, whole / place.scale)
    if place.attribute in place.module._buffers:
        mark_given(place.module, place.attribute)


def mark_given(module: nn.Module, attribute: str) -> None:
    """Keep a buffer that no seed draws again in the ``state_dict`` and in saved folders."""
    module._non_persistent_buffers_set.discard(attribute)
    state_of(module).given.add(attribute)
