"""Strict normalisation: every weight tensor keeps the norm that it started with.

Moskovitz, Litwin-Kumar & Abbott 2018 (arXiv 1812.06488), with the norm over the whole tensor as
in BioTorch (arXiv 2108.13446). There a new Parameter takes the place of the weight, which the
optimizer never sees, so that the layer stops learning; here the weight is changed in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from fxbio.errors import FxbioError
from fxbio.optim.attachment import Attachment, all_parameters, choose, matrices

__all__ = ["strict_norm"]

KEY = "fxbio_strict_norm"
"""Where the initial norms stand in the optimizer's ``state_dict``, by the number of the weight."""


def strict_norm(optimizer: Optimizer, params: Iterable[Tensor] | None = None) -> Attachment:
    """Rescale every weight after each step: ``W ← W · ‖W₀‖_F / ‖W‖_F``.

    ``W₀`` is the weight when this is called. The norms ``‖W₀‖_F`` go into the optimizer's
    ``state_dict`` and come back with it, so a resumed run continues exactly.

    Args:
        optimizer: any but LBFGS.
        params: those to normalise; by default all with at least two dimensions, so no biases and
            no scales of normalisation layers. Groups added later are not normalised.

    Returns:
        A handle that takes it off again.

    Raises:
        FxbioError: for LBFGS, for a parameter that the optimizer does not hold, and for a weight
            that is zero: it would stay zero.
    """
    weights = list(choose(optimizer, params, matrices)())
    norms = [float(_norm(weight)) for weight in weights]
    numbers = _numbers(optimizer, weights)
    _refuse_zeros(weights, norms)

    @torch.no_grad()
    def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for weight, norm in zip(weights, norms, strict=True):
            weight.mul_(norm / _norm(weight).clamp_min(1e-30))

    def save(optimizer: Optimizer, state: dict[str, Any]) -> None:
        state.setdefault(KEY, {}).update(zip(numbers, norms, strict=True))

    def load(optimizer: Optimizer, state: dict[str, Any]) -> None:
        saved = state.get(KEY, {})
        if not saved.keys() >= set(numbers):
            raise FxbioError(
                "the state_dict has no initial norms for all weights under strict_norm",
                notes=["it is of an optimizer without strict_norm, or with other params"],
                help="to begin from it, load it first and call strict_norm(optimizer) after that",
            )
        norms[:] = [saved[number] for number in numbers]

    return Attachment(
        optimizer.register_step_post_hook(after),
        optimizer.register_state_dict_post_hook(save),
        optimizer.register_load_state_dict_pre_hook(load),
    )


@torch.no_grad()
def _norm(weight: Tensor) -> Tensor:
    precise = torch.promote_types(weight.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(weight, dtype=precise)
    return norm


def _numbers(optimizer: Optimizer, weights: list[Tensor]) -> list[int]:
    """Positions of weights among all parameters, as the ``state_dict`` counts them."""
    number = {id(p): position for position, p in enumerate(all_parameters(optimizer))}
    return [number[id(weight)] for weight in weights]


def _refuse_zeros(weights: list[Tensor], norms: list[float]) -> None:
    for weight, norm in zip(weights, norms, strict=True):
        if norm == 0.0:
            raise FxbioError(
                f"a weight of shape {tuple(weight.shape)} is zero and would stay zero",
                help="initialise it otherwise, or name the other weights: params=[...]",
            )
