"""The mirror phase of weight mirrors, apart from the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fxbio.errors import ModelError
from fxbio.rules.weight_mirror import WeightMirror
from fxbio.runtime.binding import BoundWeight
from fxbio.runtime.install import bound_modules
from fxbio.runtime.local_losses import local_gradient
from fxbio.runtime.module_state import binding_of, state_of
from fxbio.runtime.sharding import fill, gathered
from fxbio.runtime.updates import renew

__all__ = ["mirror"]


@torch.no_grad()
def mirror(model: nn.Module, steps: int = 1) -> None:
    """Let the feedback of every weight mirror learn from noise, without any data.

    Each step applies ``B ← B + β (W Ξᵀ) Ξ / n − 2α B`` as it stands. The noise depends on the seed,
    the weight, the number of the step and the number of optimizer steps so far, so all ranks do
    the same, and so does a resumed run; but two calls between the same two optimizer steps do the
    same as well, so ask for all steps at once.

    Args:
        model: a transformed model.
        steps: how many.

    Raises:
        ModelError: when the model has no weight mirrors.
    """
    mirrors: dict[int, tuple[nn.Module, BoundWeight]] = {}  # modules may share a feedback
    for _, module in bound_modules(model):
        for bound in binding_of(module).weights:
            if isinstance(bound.rule, WeightMirror):
                mirrors[id(_feedback(module, bound))] = (module, bound)
    if not mirrors:
        raise ModelError(
            f"{type(model).__name__} has no weight mirrors",
            help="give some sites rule: wm",
        )
    for module, bound in mirrors.values():
        for step in range(steps):
            _step(module, bound, step)


def _step(module: nn.Module, bound: BoundWeight, step: int) -> None:
    gradient = local_gradient(module, bound, f"mirror:{step}", state_of(module).updates)
    assert gradient is not None
    feedback = _feedback(module, bound)
    fill(feedback, gathered(feedback) - gradient)
    if bound.rule.redraw_period():
        renew(module, bound, 0)


def _feedback(module: nn.Module, bound: BoundWeight) -> Tensor:
    assert bound.learned is not None
    feedback: Tensor = getattr(module, bound.learned)
    return feedback
